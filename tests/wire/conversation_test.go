package wire

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// message is one message of the protocol with a body that no parser should look into.
func message(kind byte, body string) []byte {
	m := binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+len(body)))
	return append(m, body...)
}

func messages(kinds string) []byte {
	var b []byte
	for i := range len(kinds) {
		b = append(b, message(kinds[i], strings.Repeat("Z", i%7))...)
	}
	return b
}

func startup() []byte {
	b := binary.BigEndian.AppendUint32(nil, 17)
	b = binary.BigEndian.AppendUint32(b, 3<<16)
	return append(b, "user\x00ann\x00"...)
}

// connected is a conversation after start-up.
func connected(c *counters) *conversation {
	talk := newConversation(c)
	talk.sent(startup())
	talk.received(messages("R"))
	talk.sent(messages("p"))
	talk.received(messages("RSSKZ"))
	return talk
}

// conversations are what is said on a connection, and how many round trips that is.
var conversations = []struct {
	name  string
	steps []string
	want  int64
}{
	{"start-up", nil, 0},
	{"simple query", []string{">Q", "<TDDCZ"}, 1},
	{"two simple queries", []string{">Q", "<TDDCZ", ">Q", "<CZ"}, 2},
	{"two simple queries without waiting", []string{">QQ", "<CZCZ"}, 1},
	{"answer in pieces", []string{">Q", "<TD", "<DC", "<Z"}, 1},
	{"extended query", []string{">PBDES", "<12TDDCZ"}, 1},
	{"prepare, then execute", []string{">PDS", "<1tTZ", ">BES", "<2DCZ"}, 2},
	{"query in pieces", []string{">P", ">B", ">D", ">E", ">S", "<12nCZ"}, 1},
	{"pipeline in one write", []string{">PBDESPBDESS", "<12TDCZ12TDCZZ"}, 1},
	{"pipeline answered before it is all sent", []string{">PBDES", ">PB", "<12TDC", ">DES", "<Z12TDCZ"}, 1},
	{"pipeline with a prefix", []string{">PBEBDES", "<12DC2TDCZ"}, 1},
	{"flush and wait", []string{">PDH", "<1tT", ">BES", "<2CZ"}, 2},
	{"flush and don't wait", []string{">PDH", ">BES", "<1tT2CZ"}, 1},
	{"rows in portions", []string{">PBEH", "<12DDs", ">EH", "<DC", ">S", "<Z"}, 3},
	{"empty query", []string{">PBES", "<12IZ"}, 1},
	{"close a statement", []string{">CS", "<3Z"}, 1},
	{"lone sync", []string{">S", "<Z"}, 1},
	{"notices, parameters and notifications answer nothing", []string{"<NSA", ">Q", "<NSA", ">Q", "<CZCZ", "<A"}, 1},
	{"terminate", []string{">Q", "<CZ", ">X"}, 1},
	{"flush alone", []string{">H", ">H"}, 0},
	{"error in a simple query", []string{">Q", "<EZ", ">Q", "<CZ"}, 2},
	{"error in an extended query", []string{">PBDES", "<1EZ", ">S", "<Z"}, 2},
	{"error in the first of two", []string{">PBESPBES", "<E", ">PBES", "<Z12CZ12CZ", ">S", "<Z"}, 2},
	{"error at the commit", []string{">PBES", "<12CEZ", ">S", "<Z"}, 2},
	{"error, and the rest comes late", []string{">PB", "<E", ">D", ">E", ">S", "<Z", ">S", "<Z"}, 3},
	{"error after a flush", []string{">PH", "<E", ">S", "<Z"}, 2},
	{"error that ends the connection", []string{"<E"}, 0},
	{"copy out", []string{">Q", "<HdddcCZ"}, 1},
	{"copy in", []string{">Q", "<G", ">dd", ">d", ">c", "<CZ", ">Q", "<CZ"}, 3},
	{"copy in without waiting", []string{">Qdd", ">c", "<GCZ"}, 1},
	{"copy in that fails", []string{">Q", "<G", ">d", "<EZ", ">d", ">f", ">Q", "<CZ"}, 3},
	{"copy in, extended", []string{">PBES", "<12G", ">dc", ">S", "<CZ", ">S", "<Z"}, 3},
	{"copy in, refused by the client", []string{">PBES", "<12G", ">fS", "<EZ", ">S", "<Z"}, 3},
	{"function call", []string{">F", "<VZ"}, 1},
}

func TestRoundTrips(t *testing.T) {
	// A step that begins with ">" is sent by the client, one that begins with "<" is received from the server.
	for _, tt := range conversations {
		t.Run(tt.name, func(t *testing.T) {
			var whole, byByte counters
			talk := connected(&whole)
			slow := connected(&byByte)
			var sent, received string
			for _, step := range tt.steps {
				b := messages(step[1:])
				if step[0] == '>' {
					sent += step[1:]
					talk.sent(b)
					for i := range b {
						slow.sent(b[i : i+1])
					}
				} else {
					received += step[1:]
					talk.received(b)
					for i := range b {
						slow.received(b[i : i+1])
					}
				}
			}
			require.Equal(t, tt.want, whole.roundTrips.Load())
			require.Equal(t, tt.want, byByte.roundTrips.Load(), "byte by byte")
			for kind := range whole.sentByKind {
				require.EqualValues(t, strings.Count(sent, string(rune(kind))), whole.sentByKind[kind].Load(), "sent %q", kind)
				require.EqualValues(t, strings.Count(received, string(rune(kind))), whole.gotByKind[kind].Load(), "received %q", kind)
			}
		})
	}
}

func TestFramerFindsMessagesInPiecesOfAnySize(t *testing.T) {
	const kinds = "PBDESQTDDDCZHdcX"
	stream := messages(kinds)
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		for _, early := range []bool{false, true} {
			var got []byte
			f := framer{early: early}
			for rest := stream; len(rest) > 0; {
				n := 1 + random.IntN(min(9, len(rest)))
				f.feed(rest[:n], func(kind byte) { got = append(got, kind) })
				rest = rest[n:]
			}
			require.Equal(t, kinds, string(got))
		}
	}
}

func TestFramerReportsAnAnswerByItsLastByte(t *testing.T) {
	var got string
	note := func(kind byte) { got += string(kind) }
	m := message('Z', "I")
	var late framer
	late.feed(m[:len(m)-1], note)
	require.Empty(t, got)
	late.feed(m[len(m)-1:], note)
	require.Equal(t, "Z", got)

	early := framer{early: true}
	early.feed(m[:5], note)
	require.Equal(t, "ZZ", got)
	early.feed(m[5:], note)
	require.Equal(t, "ZZ", got)
}

func FuzzFramer(f *testing.F) {
	f.Add(messages("PBDES"), messages("12TDCZ"))
	f.Add([]byte{'Q', 0, 0, 0, 0}, []byte{'Z', 255, 255, 255, 255})
	f.Fuzz(func(_ *testing.T, sent, received []byte) {
		var c counters
		talk := connected(&c)
		talk.sent(sent)
		talk.received(received)
		talk.sent(sent)
	})
}
