package wire

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	bufferSize = 64 << 10
	// inFlight is how many chunks a delay line holds before it stops reading, as a full TCP window would.
	inFlight = 256
	// nap bounds one sleep of a delay line, so that a cut is noticed soon.
	nap = 20 * time.Millisecond
	// spin is the end of a wait that is not slept but watched, for a sleeper wakes that much late.
	spin = 40 * time.Microsecond
)

// A link is one proxied connection.
type link struct {
	client, server net.Conn
	delay          time.Duration
	intercept      Interceptor // or nil
	deaf           atomic.Bool // nothing is passed on any more, and no end of a side is told to the other
	talk           *conversation
	counters       *counters
	ended          chan struct{} // closed by cut and end
	once           sync.Once
}

func newLink(client, server net.Conn, p *Proxy) *link {
	return &link{
		client: client, server: server, delay: p.delay, intercept: p.intercept,
		talk: newConversation(&p.counters), counters: &p.counters, ended: make(chan struct{}),
	}
}

// cut resets both sides.
func (l *link) cut() {
	l.once.Do(func() {
		close(l.ended)
		reset(l.client)
		reset(l.server)
	})
}

// end closes both sides in the orderly way, if they are not cut yet.
func (l *link) end() {
	l.once.Do(func() {
		close(l.ended)
		_ = l.client.Close() // all is delivered
		_ = l.server.Close()
	})
}

// run forwards both ways until both have ended.
func (l *link) run() {
	defer l.end()
	untyped, ok := l.greet()
	if !ok {
		return
	}
	// What the client has sent and received is judged from where it stands: when its bytes arrive here, and just
	// before the server's leave for it.
	sent := func(b []byte) {
		l.counters.sentBytes.Add(int64(len(b)))
		l.talk.sent(b)
	}
	received := func(b []byte) {
		l.counters.gotBytes.Add(int64(len(b)))
		l.talk.received(b)
	}
	ignore := func([]byte) {}

	toServer, toClient := io.Writer(l.server), io.Writer(l.client)
	if l.intercept != nil {
		toServer = &interception{link: l, from: Client, sender: l.client, receiver: l.server, skip: untyped}
		toClient = &interception{link: l, from: Server, sender: l.server, receiver: l.client}
	}

	var both sync.WaitGroup
	both.Go(func() { l.forward(l.client, l.server, toServer, sent, ignore) })
	both.Go(func() { l.forward(l.server, l.client, toClient, ignore, received) })
	both.Wait()
}

// greet declines encryption and passes the beginning of the start-up packet on; what follows is for forward. It returns
// how many bytes of that packet are still to come, and whether to go on.
func (l *link) greet() (rest int, ok bool) {
	for {
		packet := make([]byte, 8)
		if _, err := io.ReadFull(l.client, packet); err != nil {
			return 0, false
		}
		l.counters.sentBytes.Add(int64(len(packet)))
		if declinable(packet) {
			l.counters.gotBytes.Add(1)
			if _, err := l.client.Write([]byte{'N'}); err != nil {
				return 0, false
			}
			continue
		}
		l.talk.sent(packet)
		_, err := l.server.Write(packet)
		return max(int(binary.BigEndian.Uint32(packet))-len(packet), 0), err == nil
	}
}

// forward copies from one side to the other, through what writes to that, until the first ends, then tells the second.
func (l *link) forward(from, to net.Conn, through io.Writer, arrived, leaving func([]byte)) {
	var err error
	if l.delay > 0 {
		err = l.copyLate(from, through, arrived, leaving)
	} else {
		err = copyNow(from, through, arrived, leaving)
	}
	if l.deaf.Load() {
		return
	}
	if err != nil || closeWrite(to) != nil {
		l.cut()
	}
}

// copyNow passes bytes on as they come. It returns nil at the end of from.
func copyNow(from io.Reader, to io.Writer, arrived, leaving func([]byte)) error {
	buf := make([]byte, bufferSize)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			arrived(buf[:n])
			leaving(buf[:n])
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return ignoreEOF(err)
		}
	}
}

// copyLate passes each byte on l.delay after it came. It returns nil at the end of from, when all is delivered.
func (l *link) copyLate(from io.Reader, to io.Writer, arrived, leaving func([]byte)) error {
	type chunk struct {
		due   time.Time
		bytes []byte
	}
	line := make(chan chunk, inFlight)
	delivered := make(chan error, 1)
	go func() {
		sleep := preciseSleep()
		for c := range line {
			for wait := time.Until(c.due); wait > 0; wait = time.Until(c.due) {
				select {
				case <-l.ended:
					delivered <- net.ErrClosed
					return
				default:
				}
				if wait > spin {
					sleep(min(wait-spin, nap))
				}
			}
			leaving(c.bytes)
			if _, err := to.Write(c.bytes); err != nil {
				l.cut() // wakes the reader
				delivered <- err
				return
			}
		}
		delivered <- nil
	}()

	buf := make([]byte, bufferSize)
	readErr := func() error {
		defer close(line)
		for {
			n, err := from.Read(buf)
			if n > 0 {
				c := chunk{due: time.Now().Add(l.delay), bytes: append([]byte(nil), buf[:n]...)}
				arrived(c.bytes)
				select {
				case line <- c:
				case <-l.ended:
					return net.ErrClosed
				}
			}
			if err != nil {
				return ignoreEOF(err)
			}
		}
	}()
	if readErr != nil {
		l.cut() // a reset overtakes what is still in the line
	}
	return errors.Join(readErr, <-delivered)
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// closeWrite tells the other side that nothing more will come, and leaves the other direction open.
func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

// reset closes a connection without the courtesies of TCP.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // best effort: an ordinary close is a cut as well
	}
	_ = c.Close() // nobody is left to be told
}
