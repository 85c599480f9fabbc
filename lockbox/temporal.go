package lockbox

import (
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

const (
	datetimeLayout = "2006-01-02T15:04:05.000000000Z"
	clockLayout    = "15:04:05.000000000"
)

// maxYear keeps dates within the range of a time.Time.
const maxYear = 1_000_000

func appendDate(dst []byte, v time.Time) ([]byte, error) {
	if err := checkYear(v.Year()); err != nil {
		return dst, err
	}
	return v.AppendFormat(dst, time.DateOnly), nil
}

func appendDatetime(dst []byte, v time.Time) ([]byte, error) {
	v = v.UTC()
	if err := checkYear(v.Year()); err != nil {
		return dst, err
	}
	return v.AppendFormat(dst, datetimeLayout), nil
}

func appendTime(dst []byte, v time.Time) ([]byte, error) {
	return v.UTC().AppendFormat(dst, clockLayout), nil
}

func checkYear(year int) error {
	if year < -maxYear || year > maxYear {
		return configError("a date outside the years ±%d", maxYear)
	}
	return nil
}

// parseDate parses what Rails casts to a date: ISO 8601, or else what Ruby finds
// in the text.
func parseDate(plaintext []byte) (time.Time, bool, error) {
	text := string(plaintext)
	if date, err := time.Parse(time.DateOnly, text); err == nil {
		return date, skippedDay(date), nil
	}
	p := rubycompat.ParseDate(text, false)
	if p.Year == nil || p.Month == nil || p.Day == nil {
		return time.Time{}, true, nil
	}
	year, month, day := *p.Year, *p.Month, *p.Day
	if year < -maxYear || year > maxYear {
		return time.Time{}, false, malformed("a date outside the years ±%d", maxYear)
	}
	date := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	if date.Month() == time.Month(month) && date.Day() == day {
		return date, skippedDay(date), nil
	}
	// Before 1582 Ruby's dates follow the Julian calendar, where every fourth year
	// has a 29 February.
	if month == 2 && day == 29 && year%4 == 0 && year <= 1582 {
		return time.Time{}, false, malformed("a day that exists only in the Julian calendar")
	}
	return time.Time{}, true, nil
}

// skippedDay reports whether a day does not exist in Ruby's calendar: 4 October
// 1582 is followed by the 15th.
func skippedDay(date time.Time) bool {
	return date.Year() == 1582 && date.Month() == time.October && 5 <= date.Day() && date.Day() <= 14
}

// parseDatetime parses what Rails casts to a datetime. Without a zone it is UTC.
// Rails cuts it to microseconds.
func parseDatetime(plaintext []byte) (time.Time, bool, error) {
	text := string(plaintext)
	if t, err := time.Parse("2006-01-02T15:04:05Z07:00", text); err == nil {
		return t.UTC().Truncate(time.Microsecond), false, nil
	}
	p := rubycompat.ParseDate(text, true)
	if p.Year == nil {
		return time.Time{}, true, nil
	}
	return instant(p, microseconds(p.Fraction))
}

// parseTime parses what Rails casts to a time of day: it replaces the date by
// 2000-01-01.
func parseTime(plaintext []byte) (time.Time, bool, error) {
	text := string(plaintext)
	if strings.TrimSpace(text) == "" {
		return time.Time{}, true, nil
	}
	if isoDate(text) {
		text = text[len("2000-01-01 "):]
	}
	text = "2000-01-01 " + text
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04:05Z07:00"} {
		if t, err := time.Parse(layout, text); err == nil && text[len("2000-01-01 03")] == ':' {
			return t.UTC().Truncate(time.Microsecond), false, nil
		}
	}
	p := rubycompat.ParseDate(text, true)
	if p.Hour == nil || p.Year == nil {
		return time.Time{}, true, nil
	}
	// Here Rails takes the fraction of a second for that of a microsecond.
	return instant(p, microseconds(p.Fraction)/1e6)
}

// isoDate reports whether text begins with 2020-01-02 and a space or T.
func isoDate(text string) bool {
	const shape = "dddd-dd-dd "
	if len(text) < len(shape) {
		return false
	}
	for i := range len(shape) {
		switch c := text[i]; shape[i] {
		case 'd':
			if c < '0' || c > '9' {
				return false
			}
		case ' ':
			if c != 'T' && !strings.ContainsRune(" \t\n\v\f\r", rune(c)) {
				return false
			}
		default:
			if c != shape[i] {
				return false
			}
		}
	}
	return true
}

// microseconds returns the fraction of a second in nanoseconds, cut to
// microseconds.
func microseconds(fraction string) int {
	n := 0
	for i := range 6 {
		n *= 10
		if i < len(fraction) {
			n += int(fraction[i] - '0')
		}
	}
	return n * int(time.Microsecond)
}

// instant returns the time for the parts, by the rules of Ruby's Time.utc: an
// absent part is the smallest possible, a day that its month lacks is one of the
// next month, and impossible parts give null.
func instant(p rubycompat.DateParts, nanoseconds int) (t time.Time, null bool, err error) {
	year, month, day := *p.Year, partOr(p.Month, 1), partOr(p.Day, 1)
	hour, minute, second := partOr(p.Hour, 0), partOr(p.Minute, 0), partOr(p.Second, 0)
	switch {
	case year < -maxYear || year > maxYear:
		return time.Time{}, false, malformed("a date outside the years ±%d", maxYear)
	case p.Zone != "" && p.Offset == nil:
		// Ruby knows more zones than this package, and reads all others as UTC.
		return time.Time{}, false, malformed("an unknown time zone")
	case month < 1 || month > 12, day < 1 || day > 31, minute > 59, second > 60,
		hour > 24, hour == 24 && (minute > 0 || second > 0):
		return time.Time{}, true, nil
	}
	t = time.Date(year, time.Month(month), day, hour, minute, second, nanoseconds, time.UTC)
	return t.Add(-time.Duration(partOr(p.Offset, 0)) * time.Second), false, nil
}

func partOr(part *int, absent int) int {
	if part == nil {
		return absent
	}
	return *part
}
