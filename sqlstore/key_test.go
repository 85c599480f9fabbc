package sqlstore

import (
	"math"
	"reflect"
	"testing"
)

func TestKeyText(t *testing.T) {
	t.Parallel()
	for _, values := range [][]any{
		{int64(0)}, {int64(math.MinInt64)}, {uint64(math.MaxUint64)}, {""}, {"i5"}, {`é"\{}`, int64(-7)},
		{"\xff\x00"}, {[]byte{}}, {[]byte{0, 255}, "x", int64(1)},
	} {
		text := encodeKey(values)
		if got, err := decodeKey(text); err != nil || !reflect.DeepEqual(got, values) {
			t.Errorf("decodeKey(%s) = %#v, %v, want %#v", text, got, err, values)
		}
	}
}

func FuzzKeyText(f *testing.F) {
	for _, seed := range []string{`["i42"]`, `["sde","i7"]`, `["bAAE="]`, `["x/w=="]`, `["u1"]`, `[""]`, `{}`, `["i"]`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		values, err := decodeKey(text)
		if err != nil {
			return
		}
		again, err := decodeKey(encodeKey(values))
		if err != nil || !reflect.DeepEqual(again, values) {
			t.Errorf("decodeKey(encodeKey(%#v)) = %#v, %v", values, again, err)
		}
	})
}
