package rewrite

import (
	"strings"
	"testing"
)

func BenchmarkToken(b *testing.B) {
	r := keyring(b, 0)
	var dst, uri [2 * MaxToken]byte
	for _, test := range []int{0, 10} {
		contact := []byte(contacts[test].uri)
		b.Run(strings.ReplaceAll(contacts[test].name, " ", "_"), func(b *testing.B) {
			b.Run("append", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, _, err := r.First().AppendToken(dst[:0], 7, contact); err != nil {
						b.Fatal(err)
					}
				}
			})
			token, _, _ := r.First().AppendToken(nil, 7, contact)
			b.Run("open", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, _, ok := r.OpenToken(uri[:0], token); !ok {
						b.Fatal("does not open")
					}
				}
			})
		})
	}
}

func BenchmarkUpSeal(b *testing.B) {
	r := keyring(b, 0)
	s := upSeals[0].seal
	callID := []byte(testCallID)
	var dst [512]byte
	var buf [MaxVia]byte
	b.ReportAllocs()
	for b.Loop() {
		seal := r.First().AppendUpSeal(dst[:0], &s, callID, testCSeq)
		var got UpSeal
		if !r.OpenUpSeal(&got, buf[:], seal, callID, testCSeq) {
			b.Fatal("does not open")
		}
	}
}

func BenchmarkDownSeal(b *testing.B) {
	r := keyring(b, 0)
	s := downSeals[0].seal
	var dst [512]byte
	var buf [MaxToken]byte
	b.ReportAllocs()
	for b.Loop() {
		seal := r.First().AppendDownSeal(dst[:0], &s, &testHop)
		var got DownSeal
		if !r.OpenDownSeal(&got, buf[:], seal, &testHop) {
			b.Fatal("does not open")
		}
	}
}

func BenchmarkBranch(b *testing.B) {
	k := keyring(b, 0).First()
	var dst [64]byte
	b.ReportAllocs()
	for b.Loop() {
		k.AppendBranch(dst[:0], &testHop)
	}
}
