package zlib6

const (
	minMatch   = 3
	maxMatch   = 258
	windowSize = 1 << 15
	// The matcher wants this much text ahead, so that a match of full length and the
	// hash of the text behind it never meet the end of the window.
	minAhead    = maxMatch + minMatch + 1
	maxDistance = windowSize - minAhead
	hashSize    = 1 << 15

	// What level 6 means.
	goodLength = 8   // after a match of this length, look at a quarter of the chain
	maxLazy    = 16  // do not look for a better match than this
	niceLength = 128 // take a match of this length at once
	maxChain   = 128 // texts to compare
	tooFar     = 4096
)

// matcher is the search for matches. It keeps two windows of text: the second half is
// moved to the first when there is no room. That is more than an implementation detail,
// because a text at position 0 of the window is never matched, and because a block
// that began before the window cannot be stored.
type matcher struct {
	input  []byte // not yet in the window
	window [2*windowSize + maxMatch + 1]byte
	head   [hashSize]uint16   // the last position of a hash; 0 is none
	prev   [windowSize]uint16 // the position before with the same hash
	at     int                // the position to match
	ahead  int                // bytes in the window from there

	matchAt, matchLen int
	blockStart        int // may be negative
	block             block
	out               bitWriter
}

// compress finds matches lazily: a match is taken only if there is no longer one at
// the next byte.
func (m *matcher) compress() {
	m.matchLen = minMatch - 1
	pending := false // the byte before is neither sent nor part of a match
	for {
		if m.ahead < minAhead {
			m.fill()
			if m.ahead == 0 {
				break
			}
		}
		candidate := 0
		if m.ahead >= minMatch {
			candidate = m.insert(m.at)
		}
		lastLen, lastAt := m.matchLen, m.matchAt
		m.matchLen = minMatch - 1
		if candidate != 0 && lastLen < maxLazy && m.at-candidate <= maxDistance {
			m.longest(candidate, lastLen)
			if m.matchLen == minMatch && m.at-m.matchAt > tooFar {
				m.matchLen = minMatch - 1 // three literals are shorter
			}
		}
		switch {
		case lastLen >= minMatch && m.matchLen <= lastLen:
			full := m.block.match(m.at-1-lastAt, lastLen)
			lastInsert := m.at + m.ahead - minMatch
			m.ahead -= lastLen - 1
			for range lastLen - 2 {
				if m.at++; m.at <= lastInsert {
					m.insert(m.at)
				}
			}
			m.at++
			m.matchLen, pending = minMatch-1, false
			if full {
				m.flush(false)
			}
			continue
		case pending:
			if m.block.literal(m.window[m.at-1]) {
				m.flush(false)
			}
		}
		pending = true
		m.at++
		m.ahead--
	}
	if pending {
		m.block.literal(m.window[m.at-1])
	}
	m.flush(true)
}

// fill reads input until there is enough ahead, and moves the window if there is no
// room.
func (m *matcher) fill() {
	for m.ahead < minAhead {
		if m.at >= windowSize+maxDistance {
			copy(m.window[:windowSize], m.window[windowSize:2*windowSize])
			m.at -= windowSize
			m.matchAt -= windowSize
			m.blockStart -= windowSize
			slide(m.head[:])
			slide(m.prev[:])
		}
		if len(m.input) == 0 {
			return
		}
		n := copy(m.window[m.at+m.ahead:2*windowSize], m.input)
		m.input = m.input[n:]
		m.ahead += n
	}
}

// slide moves positions with the window. Those that leave it become 0.
func slide(positions []uint16) {
	for i, p := range positions {
		positions[i] = uint16(max(int(p)-windowSize, 0))
	}
}

// insert notes the position of a text and returns the position before with the same
// hash. The hash is of three bytes, each shifted by five bits.
func (m *matcher) insert(at int) (before int) {
	w := m.window[at : at+minMatch]
	h := (uint(w[0])<<10 ^ uint(w[1])<<5 ^ uint(w[2])) % hashSize
	p := m.head[h]
	m.prev[at%windowSize] = p
	m.head[h] = uint16(at)
	return int(p)
}

// longest sets the longest match among the candidates that is longer than lastLen. Of
// equal ones it takes the nearest.
func (m *matcher) longest(candidate, lastLen int) {
	chain, best, nice := maxChain, lastLen, min(niceLength, m.ahead)
	if lastLen >= goodLength {
		chain /= 4
	}
	oldest := max(m.at-maxDistance, 0)
	text := m.window[m.at : m.at+maxMatch]
	for {
		other := m.window[candidate : candidate+maxMatch]
		if other[best] == text[best] {
			n := 0
			for n < maxMatch && other[n] == text[n] {
				n++
			}
			if n > best {
				m.matchAt, best = candidate, n
				if n >= nice {
					break
				}
			}
		}
		candidate = int(m.prev[candidate%windowSize])
		if chain--; chain == 0 || candidate <= oldest {
			break
		}
	}
	m.matchLen = min(best, m.ahead)
}

// flush ends a block.
func (m *matcher) flush(last bool) {
	var stored []byte
	if m.blockStart >= 0 {
		stored = m.window[m.blockStart:m.at]
	}
	m.block.write(&m.out, stored, m.at-m.blockStart, last)
	m.block = block{symbols: m.block.symbols[:0]}
	m.blockStart = m.at
	if last {
		m.out.align()
	}
}
