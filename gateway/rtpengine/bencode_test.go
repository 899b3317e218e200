package rtpengine

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestCommandText is how commands look on the wire.
func TestCommandText(t *testing.T) {
	for want, cmd := range map[string]Command{
		"d7:command4:pinge": {Kind: kindPing},
		"d7:call-id1:c7:command6:delete12:delete delayi0e8:from-tag1:a6:to-tag1:b10:via-branch1:ve": {
			Kind: KindDelete, CallID: []byte("c"), FromTag: []byte("a"), ToTag: []byte("b"), ViaBranch: []byte("v"),
		},
		"d4:DTLS3:off3:ICE6:remove4:SDESl3:offe7:call-id1:c7:command5:offer9:directionl3:pub4:prive8:from-tag1:a" +
			"7:replacel6:origin18:session-connectione8:rtcp-muxl5:demuxe3:sdp3:v=018:transport-protocol7:RTP/AVPe": {
			Kind: KindOffer, CallID: []byte("c"), FromTag: []byte("a"), SDP: []byte("v=0"),
			Direction: [2]string{"pub", "priv"}, Profile: TowardsPBX(KindOffer),
		},
		"d3:ICE5:force4:SDESl3:offe7:call-id1:c7:command5:offer5:flagsl12:generate-mide8:from-tag1:a" +
			"7:replacel6:origin18:session-connectione8:rtcp-muxl5:offere3:sdp3:v=018:transport-protocol17:UDP/TLS/RTP/SAVPFe": {
			Kind: KindOffer, CallID: []byte("c"), FromTag: []byte("a"), SDP: []byte("v=0"), Profile: TowardsBrowser(KindOffer),
		},
	} {
		if got := string(cmd.append(nil)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// TestDictionary: what is bencode is read, in any order, and nothing else is.
func TestDictionary(t *testing.T) {
	deep := func(n int) string { return "d1:x" + strings.Repeat("l", n) + strings.Repeat("e", n) + "e" }
	for text, want := range map[string]string{
		"de": "", "d1:b2:hi1:a0:e": "a= b=hi", "d1:xi-1e1:yd1:zli0e2:okee1:a1:be": "a=b", deep(maxDepth): "",
		"": "no", "d": "no", "le": "no", "dee": "no", "d1:a1:be ": "no", "di1e1:ae": "no", "d1:ae": "no",
		"d01:a0:e": "no", "d1:a1:e": "no", "d1:a99999999999999999999:e": "no", "d1:a:e": "no", "d1:a-1:e": "no",
		"d1:xie": "no", "d1:xi-e": "no", "d1:xi-0ee": "no", "d1:xi01ee": "no", "d1:xi1": "no", "d1:xd1:ye": "no",
		"d1:xdi1e1:aee": "no", deep(maxDepth + 1): "no", strings.Repeat("d1:x", 1000): "no",
	} {
		got := "no"
		if entries, ok := dictionary([]byte(text)); ok {
			var pairs []string
			for _, key := range slices.Sorted(maps.Keys(entries)) {
				pairs = append(pairs, key+"="+entries[key])
			}
			got = strings.Join(pairs, " ")
		}
		if got != want {
			t.Errorf("%.40q: %s, want %s", text, got, want)
		}
	}
}

// dictionary returns the texts of one.
func dictionary(text []byte) (map[string]string, bool) {
	entries := make(map[string]string)
	ok := parseDictionary(text, func(key, value []byte) { entries[string(key)] = string(value) })
	return entries, ok
}

// FuzzAnswer: whatever comes is an answer or an error, and what has no more than
// texts in it is read as it was written.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		"d6:result4:ponge", "d3:sdp5:v=0\r\n6:result2:oke", "d6:result5:error12:error-reason15:Unknown call-ide",
		"d7:createdi1e4:tagsd1:ad6:mediasld5:indexi1eeeee6:result2:oke", "d", "i-1e", "d1:a9:e",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		answer, err := parseAnswer(text)
		if err != nil && (answer.SDP != nil || answer.Warning != "") {
			t.Errorf("%v and %+v", err, answer)
		}
		entries, ok := dictionary(text)
		if !ok {
			return
		}
		again := []byte("d")
		for key, value := range entries {
			again = appendText(appendText(again, key), value)
		}
		if read, ok := dictionary(append(again, 'e')); !ok || !maps.Equal(read, entries) {
			t.Errorf("%q is read from %q, %q again", entries, text, read)
		}
	})
}
