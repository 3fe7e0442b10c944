package wire

import "encoding/binary"

// Codes that a client sends in place of a protocol version, to ask for encryption first.
const (
	sslRequest    = 80877103
	gssEncRequest = 80877104
)

// declinable reports whether the first eight bytes of a connection are a request for encryption.
func declinable(packet []byte) bool {
	if binary.BigEndian.Uint32(packet) != 8 {
		return false
	}
	code := binary.BigEndian.Uint32(packet[4:])
	return code == sslRequest || code == gssEncRequest
}

// A framer finds the messages in a stream that comes in pieces of any size. Each message is a byte for its kind and
// four for its length, which count themselves, and a body.
type framer struct {
	untyped bool // the next message is the start-up packet, which has no kind
	early   bool // report a message by its header, not by its last byte

	header [5]byte
	have   int // bytes of the header
	body   int // bytes of the body still to come
}

// feed takes the next piece and calls message, with its kind, for each that is in it. The start-up packet is not
// reported. A length that no server would accept ends a message at its header: the server will hang up.
func (f *framer) feed(b []byte, message func(kind byte)) {
	for len(b) > 0 {
		if f.body > 0 {
			n := min(f.body, len(b))
			f.body -= n
			b = b[n:]
			if f.body == 0 {
				f.finish(message)
			}
			continue
		}
		start := 0
		if f.untyped {
			start = 1
		}
		n := copy(f.header[start+f.have:], b)
		f.have += n
		b = b[n:]
		if start+f.have < len(f.header) {
			return
		}
		f.body = max(int(binary.BigEndian.Uint32(f.header[1:]))-4, 0)
		if f.early && !f.untyped {
			message(f.header[0])
		}
		if f.body == 0 {
			f.finish(message)
		}
	}
}

// finish ends a message.
func (f *framer) finish(message func(kind byte)) {
	if !f.early && !f.untyped {
		message(f.header[0])
	}
	f.have, f.untyped = 0, false
}
