package rubycompat

import (
	"strconv"
	"strings"
	"unicode"
)

// zoneOffsets are the zones of RFC 822 and some common ones, in hours.
var zoneOffsets = map[string]float64{
	"utc": 0, "ut": 0, "gmt": 0, "z": 0, "wet": 0, "west": 1, "bst": 1, "cet": 1, "cest": 2, "eet": 2, "eest": 3, "msk": 3,
	"ist": 5.5, "sgt": 8, "hkt": 8, "jst": 9, "kst": 9, "aest": 10, "aedt": 11, "nzst": 12, "nzdt": 13,
	"est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7, "akst": -9, "akdt": -8, "hst": -10,
	"eastern": -5, "central": -6, "mountain": -7, "pacific": -8,
}

func (s *dateScan) readZone(zone string) {
	if zone == "" {
		return
	}
	s.parts.Zone = zone
	name := strings.ToLower(strings.Join(strings.Fields(zone), " "))
	summer := 0
	for _, suffix := range []struct {
		text    string
		seconds int
	}{{" standard time", 0}, {" daylight time", 3600}, {" dst", 3600}} {
		if short, ok := strings.CutSuffix(name, suffix.text); ok {
			name, summer = short, suffix.seconds
			break
		}
	}
	if hours, ok := zoneOffsets[name]; ok {
		s.parts.Offset = new(int(hours*3600) + summer)
		return
	}
	if len(name) == 1 && unicode.IsLetter(rune(name[0])) {
		s.parts.Offset = military(name[0])
		return
	}
	s.parts.Offset = s.numericZone(name)
}

// military is the zone of one letter: a to m without j east, n to y west.
func military(letter byte) *int {
	if i := strings.IndexByte("abcdefghiklm", letter); i >= 0 {
		return new((i + 1) * 3600)
	}
	if i := strings.IndexByte("nopqrstuvwxy", letter); i >= 0 {
		return new(-(i + 1) * 3600)
	}
	return nil
}

// numericZone parses +9, +0930, +09:30, +09:30:15 and +9.5.
func (s *dateScan) numericZone(name string) *int {
	m := s.zoneHours.FindStringSubmatch(name)
	if m == nil {
		return nil
	}
	digits := m[2]
	if m[3] == "" && len(digits) > 2 {
		// Without separators, the hours are the digits before whole pairs.
		digits = strings.Repeat("0", len(digits)%2) + digits
		m[2], m[4] = digits[:2], digits[2:4]
		if len(digits) >= 6 {
			m[5] = digits[4:6]
		}
	}
	hours, ok := atoi(m[2])
	if !ok {
		return nil
	}
	seconds := hours * 3600
	if m[3] == "." || m[3] == "," {
		fraction, err := strconv.ParseFloat("0."+m[4], 64)
		if err != nil {
			return nil
		}
		seconds += int(fraction * 3600)
	} else {
		minutes, _ := atoi(m[4])
		rest, _ := atoi(m[5])
		seconds += minutes*60 + rest
	}
	if m[1] == "-" {
		seconds = -seconds
	}
	return &seconds
}
