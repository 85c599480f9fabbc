package rubycompat

import (
	"fmt"
	"strings"
	"testing"
)

// show writes parts as year-month-day hour:minute:second.fraction offset, with
// "_" for parts that were not found.
func show(p DateParts) string {
	part := func(n *int) string {
		if n == nil {
			return "_"
		}
		return fmt.Sprint(*n)
	}
	text := part(p.Year) + "-" + part(p.Month) + "-" + part(p.Day)
	if p.Hour != nil || p.Minute != nil || p.Second != nil {
		text += " " + part(p.Hour) + ":" + part(p.Minute) + ":" + part(p.Second)
	}
	if p.Fraction != "" {
		text += "." + p.Fraction
	}
	if p.Zone != "" {
		text += " " + part(p.Offset)
	}
	return text
}

// Texts and what Ruby 3.1 finds in them.
func TestParseDate(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"2020-1-2": "2020-1-2", "02 Jan 2020": "2020-1-2", "Jan 2 2020": "2020-1-2", "2 Jan": "_-1-2",
		"20200102": "2020-1-2", "200102": "2020-1-2", "2020002": "2020-_-_", "20002": "2020-_-_", "0102": "_-1-2", "02": "_-_-2", "002": "_-_-_",
		"+012345-06-07": "12345-6-7", "-0001-01-01": "-1-1-1", "2020/1/2": "2020-1-2", "02/01/2020": "2020-1-2", "1/2/20": "2001-2-20",
		"2.1.2020": "2020-1-2", "2-jan-2020": "2020-1-2", "jan-2-2020": "2020-1-2", "12/31": "_-12-31",
		"Thu, 02 Jan 2020 03:04:05 GMT": "2020-1-2 3:4:5 0", "sat aug 28 02:55:00 2000": "2000-8-28 2:55:0",
		"H31.04.30": "2019-4-30", "R2.1.2": "2020-1-2", "2020-W01-4": "_-_-_", "2020-001": "2020-_-_", "--01-02": "_-1-2", "--0102": "_-1-2",
		"'20": "2020-_-_", "'99-1-2": "1999-1-2", "99-1-2": "1999-1-2", "3rd": "_-_-3", "3rd Feb 2001": "2001-2-3", "Feb 3rd, 2001": "2001-2-3",
		"Feb 2001": "2001-2-_", "Feb": "_-2-_", "3rd Feb 2001 BC": "-2000-2-3",
		"20010203T040506Z": "2001-2-3 4:5:6 0", "20010203T040506.5+0900": "2001-2-3 4:5:6.5 32400", "20200102030405": "2020-1-2 3:4:5",
		"2001-02-03T04:05:06+09:00": "2001-2-3 4:5:6 32400", "10:20pm": "_-_-_ 22:20:_", "10h20m30s": "_-_-_ 10:20:30", "12 a.m.": "_-_-_ 0:_:_",
		"2020": "_-20-20", "2020-01": "_-20-20 -3600", "2020-01-02 3": "2020-1-2 3:_:_", "12345.": "_-_-_ 1:23:45", "bad": "_-_-_", "Monday": "_-_-_",
		"2020-01-02 10:20:30 EST": "2020-1-2 10:20:30 -18000", "2020-01-02 10:20 utc+3": "2020-1-2 10:20:_ 10800", "10:20 est dst": "_-_-_ 10:20:_ -14400",
		"2020-01-02 10:20:30.123456789012 -03:30": "2020-1-2 10:20:30.123456789012 -12600", "10:20 Eastern Standard Time": "_-_-_ 10:20:_ -18000",
		"10:20 +1.5": "_-_-_ 10:20:_ 5400", "10:20 +123": "_-_-_ 10:20:_ 4980", "10:20 +123456": "_-_-_ 10:20:_ 45296", "10:20 m": "_-_-_ 10:20:_ 43200",
		"10:20 n": "_-_-_ 10:20:_ -3600", "10:20 foo": "_-_-_ 10:20:_ _",
		"2020年1月2日": "_-20-20", "": "_-_-_", strings.Repeat("2020-01-02", 13): "_-_-_",
	} {
		if got := show(ParseDate(in, true)); got != want {
			t.Errorf("ParseDate(%q, true) = %s, want %s", in, got, want)
		}
	}
	for in, want := range map[string]string{"200102": "20-1-2", "99-1-2": "99-1-2", "1/2/20": "1-2-20", "2020-1-2": "2020-1-2"} {
		if got := show(ParseDate(in, false)); got != want {
			t.Errorf("ParseDate(%q, false) = %s, want %s", in, got, want)
		}
	}
}

func FuzzParseDate(f *testing.F) {
	for _, seed := range []string{"2020-01-02 03:04:05.5 +09:00", "3rd Feb 2001 BC", "20010203T040506Z", "sat aug 28 02:55:00 2000", "H31.04.30"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p := ParseDate(text, false)
		// A text in the usual form of what was found is read as the same.
		if p.Year == nil || p.Month == nil || p.Day == nil || *p.Year < 1000 || *p.Year > 9999 || *p.Month > 12 || *p.Day > 31 {
			return
		}
		iso := fmt.Sprintf("%04d-%02d-%02d", *p.Year, *p.Month, *p.Day)
		if got := show(ParseDate(iso, false)); got != show(DateParts{Year: p.Year, Month: p.Month, Day: p.Day}) {
			t.Errorf("ParseDate(%q) = %s", iso, got)
		}
	})
}
