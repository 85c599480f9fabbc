package zlib6

import "math/bits"

const (
	maxSymbols = 1<<14 - 1 // of a block

	endOfBlock    = 256
	literalCodes  = 286
	distanceCodes = 30
	lengthCodes   = 19 // the codes of code lengths
)

// The kinds of blocks (RFC 1951, section 3.2.3).
const (
	storedBlock = iota
	fixedBlock
	ownBlock
)

// symbol is a literal, or a match if its distance is not 0.
type symbol struct {
	distance uint16
	value    uint16 // the literal, or the length of the match
}

// block is the symbols of a block and how often their codes occur.
type block struct {
	symbols   []symbol
	literals  [literalCodes]int
	distances [distanceCodes]int
}

func (b *block) literal(c byte) (full bool) {
	b.literals[c]++
	return b.add(symbol{value: uint16(c)})
}

func (b *block) match(distance, length int) (full bool) {
	b.literals[lengthCode(length).code]++
	b.distances[distanceCode(distance).code]++
	return b.add(symbol{uint16(distance), uint16(length)})
}

func (b *block) add(s symbol) (full bool) {
	b.symbols = append(b.symbols, s)
	return len(b.symbols) == maxSymbols
}

// write writes the block in its shortest form. text is nil if it cannot be stored.
func (b *block) write(out *bitWriter, text []byte, length int, last bool) {
	b.literals[endOfBlock]++
	literals := newTree(b.literals[:], 15)
	distances := newTree(b.distances[:], 15)
	lengths := codeLengths(literals, distances)
	extra := b.extraBits()
	own := bytesOf(3 + literals.bits(b.literals[:]) + distances.bits(b.distances[:]) + extra + lengths.size())
	fixed := bytesOf(3 + fixedLiterals.bits(b.literals[:]) + fixedDistances.bits(b.distances[:]) + extra)
	kind := ownBlock
	if fixed <= own {
		kind = fixedBlock
	}
	if text != nil && length+4 <= min(own, fixed) {
		kind = storedBlock
	}
	final := 0
	if last {
		final = 1
	}
	out.put(kind<<1|final, 3)
	switch kind {
	case storedBlock:
		out.align()
		out.put(length, 16)
		out.put(^length&0xffff, 16)
		out.bytes = append(out.bytes, text...)
	case fixedBlock:
		b.writeSymbols(out, fixedLiterals, fixedDistances)
	default:
		lengths.write(out)
		b.writeSymbols(out, literals, distances)
	}
}

func bytesOf(bits int) int { return (bits + 7) / 8 }

func (b *block) writeSymbols(out *bitWriter, literals, distances tree) {
	for _, s := range b.symbols {
		if s.distance == 0 {
			literals.put(out, int(s.value))
			continue
		}
		for _, part := range []struct {
			tree
			coded
		}{{literals, lengthCode(int(s.value))}, {distances, distanceCode(int(s.distance))}} {
			part.put(out, part.code)
			out.put(part.extra, part.width)
		}
	}
	literals.put(out, endOfBlock)
}

// extraBits returns the number of bits behind the codes of lengths and distances.
func (b *block) extraBits() (n int) {
	for code := endOfBlock + 1; code < literalCodes; code++ {
		n += b.literals[code] * lengthWidth(code)
	}
	for code, times := range b.distances {
		n += times * distanceWidth(code)
	}
	return n
}

// coded is a length or distance: its code and extra bits (RFC 1951, section 3.2.5).
type coded struct{ code, extra, width int }

func lengthCode(length int) coded {
	if length == maxMatch {
		return coded{code: literalCodes - 1}
	}
	c := split(length-minMatch, 4)
	c.code += endOfBlock + 1
	return c
}

func distanceCode(distance int) coded { return split(distance-1, 2) }

// split returns the code of a number where each power of two has as many codes as
// perPower, and the bits that the code does not say.
func split(number, perPower int) coded {
	if number < 2*perPower {
		return coded{code: number}
	}
	width := bits.Len(uint(number)) - bits.Len(uint(perPower))
	return coded{code: perPower*width + number>>width, extra: number & (1<<width - 1), width: width}
}

func lengthWidth(code int) int {
	if code == literalCodes-1 {
		return 0
	}
	return max((code-endOfBlock-1)/4-1, 0)
}

func distanceWidth(code int) int { return max(code/2-1, 0) }
