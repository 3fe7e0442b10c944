package wire

import (
	"encoding/binary"
	"net"
	"time"
)

// A Side is one of the two that talk.
type Side int

// The sides.
const (
	Client Side = iota
	Server
)

// An Interceptor decides about each message of every connection before it is passed on: its kind is the first byte, four
// bytes of length follow, and the body. The start-up packet, which has no kind, is not shown, nor are cancel requests.
// The two directions of a connection are asked at the same time, and so are all connections. The message is not to be
// kept.
type Interceptor func(from Side, message []byte) Fate

// A Fate is what becomes of a message, and of its connection. The zero value lets it pass.
type Fate struct {
	ending  ending
	bytes   int           // of the message that are passed on before the ending
	instead string        // is passed on in the message's place, if not empty
	trickle bool          // each byte by itself
	pause   time.Duration // between them
}

type ending int

const (
	goOn ending = iota
	breakOff
	fallSilent
)

// Break passes on the first n bytes of the message and then breaks the connection: the receiver finds its end behind them,
// and the sender's is reset.
func Break(n int) Fate { return Fate{ending: breakOff, bytes: n} }

// FallSilent passes on the first n bytes of the message and nothing ever after, in both directions. Neither side is told,
// not even of the other's end: the connection is half-open until the proxy cuts it.
func FallSilent(n int) Fate { return Fate{ending: fallSilent, bytes: n} }

// Replace passes on another message in the place of this one.
func Replace(message string) Fate { return Fate{instead: message} }

// Trickle passes the message on in pieces of one byte, with a pause between them.
func Trickle(pause time.Duration) Fate { return Fate{trickle: true, pause: pause} }

// WithInterceptor has intercept asked about each message.
func WithInterceptor(intercept Interceptor) Option {
	return func(p *Proxy) { p.intercept = intercept }
}

// An interception is one direction of a connection, as something to write to.
type interception struct {
	link             *link
	from             Side
	sender, receiver net.Conn
	skip             int    // bytes of the start-up packet still to come
	pending          []byte // of a message that is not complete
}

const headerSize = 5

// Write passes on what is complete.
func (i *interception) Write(b []byte) (int, error) {
	written := len(b)
	if n := min(i.skip, len(b)); n > 0 && !i.link.deaf.Load() {
		if _, err := i.receiver.Write(b[:n]); err != nil {
			return 0, err
		}
		i.skip -= n
		b = b[n:]
	}
	i.pending = append(i.pending, b...)
	for len(i.pending) >= headerSize {
		size := 1 + max(int(binary.BigEndian.Uint32(i.pending[1:])), headerSize-1)
		if len(i.pending) < size {
			break
		}
		if err := i.pass(i.pending[:size]); err != nil {
			return 0, err
		}
		i.pending = i.pending[size:]
	}
	return written, nil
}

func (i *interception) pass(message []byte) error {
	if i.link.deaf.Load() {
		return nil
	}
	fate := i.link.intercept(i.from, message)
	if fate.instead != "" {
		message = []byte(fate.instead)
	}
	if fate.ending != goOn {
		i.link.deaf.Store(true)
		message = message[:fate.bytes]
	}
	if err := i.deliver(message, fate); err != nil {
		return err
	}
	if fate.ending == breakOff {
		reset(i.sender)
		return closeWrite(i.receiver)
	}
	return nil
}

func (i *interception) deliver(message []byte, fate Fate) error {
	piece := len(message)
	if fate.trickle {
		piece = 1
	}
	for len(message) > 0 {
		n := min(piece, len(message))
		if _, err := i.receiver.Write(message[:n]); err != nil {
			return err
		}
		message = message[n:]
		if fate.pause > 0 {
			select {
			case <-time.After(fate.pause):
			case <-i.link.ended:
				return net.ErrClosed
			}
		}
	}
	return nil
}
