package rubycompat

import (
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// DateParts is what Ruby's Date._parse found in a text; nil means not found.
type DateParts struct {
	Year, Month, Day     *int
	Hour, Minute, Second *int
	Fraction             string // digits of the second after the point
	Offset               *int   // of the zone, in seconds east of UTC
	Zone                 string // set even if the offset of the zone is unknown
}

// maxDateText is the length from which on Ruby ignores a text.
const maxDateText = 128

// ParseDate is Ruby's Date._parse, which Rails uses to guess date and time of
// texts that are not ISO 8601. complete converts years of two digits: 69 to 99
// become 19xx, others 20xx. Days of the year, weeks and weekdays, which Rails
// ignores, are left out.
func ParseDate(text string, complete bool) DateParts {
	if len(text) > maxDateText {
		return DateParts{}
	}
	s := &dateScan{grammar: dateGrammar(), complete: complete}
	s.text = s.noise.ReplaceAllString(text, " ")
	s.take(s.weekday)
	if m := s.take(s.clock); m != nil {
		s.readClock(m[1])
		s.readZone(m[2])
	}
	s.date()
	if m := s.take(s.era); m != nil && s.parts.Year != nil {
		*s.parts.Year = 1 - *s.parts.Year
	}
	s.lonely()
	if year := s.parts.Year; year != nil && s.complete && 0 <= *year && *year <= 99 {
		*year += map[bool]int{true: 1900, false: 2000}[*year >= 69]
	}
	return s.parts
}

type grammar struct {
	noise, weekday, clock, clockParts            *regexp.Regexp
	dayMonth, monthDay, iso, japanese            *regexp.Regexp
	dayMonthDash, monthDayDash, slashes, dots    *regexp.Regexp
	weekDates                                    []*regexp.Regexp
	yearDay, monthDayIso, monthDayRun            *regexp.Regexp
	apostropheYear, month, day                   *regexp.Regexp
	digits, era, lonelyNumber, number, zoneHours *regexp.Regexp
}

// dateGrammar is compiled for the first unusual date, because most programs never
// read one.
var dateGrammar = sync.OnceValue(func() *grammar {
	const (
		months = `(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)`
		bc     = `(c(?:e|\.e\.)|b(?:ce|\.c\.e\.)|a(?:d|\.d\.)|b(?:c|\.c\.))`
		half   = `[ap](?:m\b|\.m\.)`
	)
	re := func(pattern string) *regexp.Regexp { return regexp.MustCompile(`(?i)` + pattern) }
	return &grammar{
		noise:   re(`[^-+',./:@\p{L}\p{M}\p{N}\[\]]+`),
		weekday: re(`\b(?:sun|mon|tue|wed|thu|fri|sat)[^-/\d\s]*`),
		clock: re(`(\d+\s*(?:(?::\s*\d+(?:\s*:\s*\d+(?:[,.]\d*)?)?|h(?:\s*\d+m?(?:\s*\d+s?)?)?)(?:\s*` + half + `)?|` + half + `))` +
			`(?:\s*((?:gmt|utc?)?[-+]\d+(?:[,.:]\d+(?::\d+)?)?|[\pL.\s]+(?:standard|daylight)\stime\b|\pL+(?:\sdst)?\b))?`),
		clockParts: re(`^(\d+)\s*h?(?:\s*:?\s*(\d+)m?(?:\s*:?\s*(\d+)(?:[,.](\d*))?s?)?)?(?:\s*([ap])(?:m\b|\.m\.))?`),
		dayMonth:   re(`('?\d+)[^-\d\s]*\s*` + months + `[^-\d\s']*(?:\s*` + bc + `?\s*('?-?\d+(?:(?:st|nd|rd|th)\b)?))?`),
		monthDay:   re(`\b` + months + `[^-\d\s']*\s*('?\d+)[^-\d\s']*(?:\s*,?\s*` + bc + `?\s*('?-?\d+))?`),
		iso:        re(`('?[-+]?\d+)-(\d+)-('?-?\d+)`),
		japanese:   re(`\b([mtshr])(\d+)\.(\d+)\.(\d+)`),

		dayMonthDash: re(`('?-?\d+)-` + months + `[^-/.]*-('?-?\d+)`),
		monthDayDash: re(`\b` + months + `[^-/.]*-('?\d+)(?:-('?-?\d+))?`),
		slashes:      re(`('?-?\d+)/\s*('?\d+)(?:\D\s*('?-?\d+))?`),
		dots:         re(`('?-?\d+)\.\s*('?\d+)\.\s*('?-?\d+)`),
		weekDates: []*regexp.Regexp{
			re(`\b(?:\d{2}|\d{4})?-?w\d{2}(?:-?\d)?\b`),
			re(`-w-\d\b`),
		},
		monthDayIso:    re(`--(\d{2})?-(\d{2})\b`),
		monthDayRun:    re(`--(\d{2})(\d{2})?\b`),
		yearDay:        re(`\b(\d{2}|\d{4})-\d{3}\b`),
		apostropheYear: re(`'(\d+)\b`),
		month:          re(`\b` + months + `\S*`),
		day:            re(`(\d+)(?:st|nd|rd|th)\b`),
		digits: re(`([-+]?)(\d{2,14})(?:\s*t?\s*(\d{2,6})?([,.]\d*)?)?` +
			`(z\b|[-+]\d{1,4}\b|\[[-+]?\d[^\]]*\])?`),
		era:          re(`\b(?:bc\b|bce\b|b\.c\.|b\.c\.e\.)`),
		lonelyNumber: re(`^\s*(\d{1,2})\s*$`),
		number:       re(`[-+]?\d+`),
		zoneHours:    re(`^(?:gmt|utc?)?([-+])(\d+)(?:([,.:])(\d+)(?::(\d+))?)?$`),
	}
})

// dateScan is a text being parsed. What was parsed is replaced by a space.
type dateScan struct {
	*grammar
	text     string
	complete bool
	parts    DateParts
}

// take returns the groups of a match and removes it from the text.
func (s *dateScan) take(re *regexp.Regexp) []string {
	at := re.FindStringSubmatchIndex(s.text)
	if at == nil {
		return nil
	}
	groups := make([]string, len(at)/2)
	for i := range groups {
		if at[2*i] >= 0 {
			groups[i] = s.text[at[2*i]:at[2*i+1]]
		}
	}
	s.text = s.text[:at[0]] + " " + s.text[at[1]:]
	return groups
}

func (s *dateScan) readClock(text string) {
	m := s.clockParts.FindStringSubmatch(text)
	if m == nil {
		return
	}
	hour, ok := atoi(m[1])
	if !ok {
		return
	}
	if half := strings.ToLower(m[5]); half != "" {
		hour %= 12
		if half == "p" {
			hour += 12
		}
	}
	s.parts.Hour = &hour
	s.parts.Minute = number(m[2])
	s.parts.Second = number(m[3])
	s.parts.Fraction = m[4]
}

// date tries the forms of a date in Ruby's order until one matches.
func (s *dateScan) date() {
	// Each form has the groups in its own order: year, month, day.
	for _, form := range []struct {
		re               *regexp.Regexp
		year, month, day int
		era              int
	}{
		{s.dayMonth, 4, 2, 1, 3},
		{s.monthDay, 4, 1, 2, 3},
		{s.iso, 1, 2, 3, 0},
		{s.japanese, 0, 0, 0, 0},
		{s.dayMonthDash, 3, 2, 1, 0},
		{s.monthDayDash, 3, 1, 2, 0},
		{s.slashes, 1, 2, 3, 0},
		{s.dots, 1, 2, 3, 0},
	} {
		m := s.take(form.re)
		switch {
		case m == nil:
			continue
		case form.re == s.japanese:
			s.imperial(m)
		default:
			s.order(m[form.year], monthNumber(m[form.month]), m[form.day])
			if era := m[form.era]; form.era > 0 && era != "" && strings.ContainsAny(era[:1], "bB") && s.parts.Year != nil {
				*s.parts.Year = 1 - *s.parts.Year
			}
		}
		return
	}
	for _, week := range s.weekDates {
		if s.take(week) != nil {
			return
		}
	}
	for _, form := range []*regexp.Regexp{s.monthDayIso, s.monthDayRun} {
		if m := s.take(form); m != nil {
			s.parts.Month, s.parts.Day = number(m[1]), number(m[2])
			return
		}
	}
	if m := s.take(s.yearDay); m != nil {
		s.parts.Year = number(m[1])
		return
	}
	if m := s.take(s.apostropheYear); m != nil {
		s.parts.Year = number(m[1])
		return
	}
	if m := s.take(s.month); m != nil {
		s.parts.Month = number(monthNumber(m[1]))
		return
	}
	if m := s.take(s.day); m != nil {
		s.parts.Day = number(m[1])
		return
	}
	if m := s.take(s.digits); m != nil {
		s.run(m[1], m[2], m[3], m[4], m[5])
	}
}

// imperial parses a year counted from an era of Japan.
func (s *dateScan) imperial(m []string) {
	before := map[string]int{"m": 1867, "t": 1911, "s": 1925, "h": 1988, "r": 2018}[strings.ToLower(m[1])]
	s.parts.Year, s.parts.Month, s.parts.Day = number(m[2]), number(m[3]), number(m[4])
	if s.parts.Year != nil {
		*s.parts.Year += before
	}
}

// order decides which of three texts is the year. A text with an apostrophe or
// more than two digits is the year; an ordinal is the day.
func (s *dateScan) order(year, month, day string) {
	if year != "" && month != "" && day == "" {
		year, month, day = day, year, month
	}
	if year == "" && isYear(day) {
		year, day = day, ""
	}
	if year != "" {
		if at := s.number.FindStringIndex(year); at != nil && at[1] < len(year) {
			year, day = day, strings.TrimLeft(year[at[0]:at[1]], "+-")
		}
	}
	if isYear(month) {
		year, month, day = month, day, year
	}
	if isYear(day) {
		year, day = day, year
	}
	if found := s.number.FindString(year); found != "" {
		s.parts.Year = number(found)
		if len(strings.TrimLeft(found, "+-")) != len(found) || len(found) > 2 {
			s.complete = false
		}
	}
	s.parts.Month = number(unsigned(s.number.FindString(month)))
	s.parts.Day = number(unsigned(s.number.FindString(day)))
}

func isYear(text string) bool { return strings.HasPrefix(text, "'") || len(text) > 2 }

func unsigned(text string) string { return strings.TrimLeft(text, "+-") }

// run parses a run of digits: 20200102, 20200102T030405.5, 0102 and similar.
func (s *dateScan) run(sign, date, clock, fraction, zone string) {
	p := &s.parts
	cut := func(n int) *int { // the next n digits
		v := number(date[:n])
		date = date[n:]
		return v
	}
	last := func() *int { // the last two digits, or the remaining one
		n := max(0, len(date)-2)
		v := number(date[n:])
		date = date[:n]
		return v
	}
	signed := func(year *int) *int {
		if year != nil && sign == "-" {
			*year = -*year
		}
		return year
	}
	switch n := len(date); {
	case clock == "" && fraction != "" && n <= 8 || clock == "" && fraction != "" && n%2 == 0:
		// Digits before a fraction end with the seconds.
		p.Second = last()
		p.Minute, p.Hour, p.Day, p.Month = last(), last(), last(), last()
		if date != "" {
			if len(date) == 4 {
				s.complete = false
			}
			p.Year = signed(number(date))
		}
	case n == 2:
		p.Day = cut(2)
	case n == 4:
		p.Month, p.Day = cut(2), cut(2)
	case n == 6:
		p.Year, p.Month, p.Day = signed(cut(2)), cut(2), cut(2)
	case n == 5:
		p.Year = signed(cut(2)) // and the day of the year
	case n == 7:
		p.Year = signed(cut(4))
	case n >= 8 && n%2 == 0:
		p.Year, p.Month, p.Day = signed(cut(4)), cut(2), cut(2)
		s.complete = false
		for _, part := range []**int{&p.Hour, &p.Minute, &p.Second} {
			if date != "" {
				*part = cut(2)
			}
		}
	}
	if clock != "" {
		s.runClock(clock, fraction != "")
	}
	if fraction != "" {
		p.Fraction = fraction[1:]
	}
	s.readZone(strings.Trim(zone, "[]"))
}

// runClock parses the digits after a run's t: hours first, or seconds last if a
// fraction follows.
func (s *dateScan) runClock(clock string, fraction bool) {
	if len(clock)%2 != 0 {
		return
	}
	var pairs []*int
	for ; clock != ""; clock = clock[2:] {
		pairs = append(pairs, number(clock[:2]))
	}
	parts := []**int{&s.parts.Hour, &s.parts.Minute, &s.parts.Second}
	if fraction {
		parts = parts[len(parts)-len(pairs):]
	}
	for i, pair := range pairs {
		*parts[i] = pair
	}
}

// lonely reads a single number as the hour of a date without one, or as the day
// of a time without one.
func (s *dateScan) lonely() {
	m := s.lonelyNumber.FindStringSubmatch(s.text)
	if m == nil {
		return
	}
	n, _ := atoi(m[1])
	p := &s.parts
	if p.Hour != nil && p.Day == nil && 1 <= n && n <= 31 {
		p.Day = &n
	}
	if p.Day != nil && p.Hour == nil && n <= 24 {
		p.Hour = &n
	}
}

// monthNumber returns the number of a month's name as text. Numbers stay as they
// are.
func monthNumber(text string) string {
	if len(text) >= 3 {
		if i := strings.Index("janfebmaraprmayjunjulaugsepoctnovdec", strings.ToLower(text[:3])); i >= 0 && i%3 == 0 {
			return strconv.Itoa(i/3 + 1)
		}
	}
	return text
}

// number returns digits as *int, or nil if there are none or too many.
func number(text string) *int {
	n, ok := atoi(text)
	if !ok {
		return nil
	}
	return &n
}

func atoi(text string) (int, bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil
}
