//go:build !race

// The race detector makes sync.Pool drop some of what it is given.

package rewrite

import "testing"

func TestSealingDoesNotAllocate(t *testing.T) {
	r := keyring(t, 0, 1)
	old := r.Keys()[1] // opening tries the first key in vain
	var dst, buf [512]byte
	aor, contact, callID := []byte("1001@pbx.example"), []byte(contacts[0].uri), []byte(testCallID)
	token, _ := appendToken(t, old, goldenOrigin, contacts[0].uri)
	up, down := &upSeals[2].seal, &downSeals[0].seal
	upSeal := old.AppendUpSeal(nil, up, callID, testCSeq)
	downSeal := old.AppendDownSeal(nil, down, &testHop)
	var openedUp UpSeal
	var openedDown DownSeal

	for _, test := range []struct {
		name string
		run  func()
	}{
		{"Origin", func() { old.Origin(aor, contact) }},
		{"AppendToken", func() { _, _, _ = old.AppendToken(dst[:0], goldenOrigin, contact) }},
		{"OpenToken", func() { r.OpenToken(dst[:0], []byte(token)) }},
		{"AppendUpSeal", func() { old.AppendUpSeal(dst[:0], up, callID, testCSeq) }},
		{"OpenUpSeal", func() { r.OpenUpSeal(&openedUp, buf[:], upSeal, callID, testCSeq) }},
		{"AppendDownSeal", func() { old.AppendDownSeal(dst[:0], down, &testHop) }},
		{"OpenDownSeal", func() { r.OpenDownSeal(&openedDown, buf[:], downSeal, &testHop) }},
		{"AppendBranch", func() { old.AppendBranch(dst[:0], &testHop) }},
		{"AppendTag", func() { old.AppendTag(dst[:0], &testHop) }},
	} {
		if n := testing.AllocsPerRun(1000, test.run); n != 0 {
			t.Errorf("%s: %v allocations", test.name, n)
		}
	}
	if openedUp.Key != old || openedDown.Key != old {
		t.Error("the seals were not opened")
	}
}
