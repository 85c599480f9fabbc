package zlib6

// The codes of the code lengths of a block that has own codes (RFC 1951, section
// 3.2.7): a length, or a run.
const (
	repeatLast = 16 // 3 to 6 times, 2 bits
	zeros      = 17 // 3 to 10 times, 3 bits
	manyZeros  = 18 // 11 to 138 times, 7 bits
)

// lengthOrder is the order of the code lengths of these codes.
var lengthOrder = [lengthCodes]int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// lengthTable is the code lengths of two trees, as they are written.
type lengthTable struct {
	literals, distances int // how many lengths each has
	runs                []coded
	tree                tree
	used                int // of lengthOrder
	times               [lengthCodes]int
}

func codeLengths(literals, distances tree) *lengthTable {
	t := &lengthTable{literals: literals.used(), distances: distances.used()}
	for _, tree := range []tree{literals[:t.literals], distances[:t.distances]} {
		t.addRuns(tree)
	}
	t.tree = newTree(t.times[:], 7)
	t.used = lengthCodes
	for t.used > 4 && t.tree[lengthOrder[t.used-1]].width == 0 {
		t.used--
	}
	return t
}

// addRuns adds the lengths of a tree. A run of zeros is of up to 138. Any other length
// is written once and then repeated up to 6 times, and so on.
func (t *lengthTable) addRuns(codes tree) {
	for i := 0; i < len(codes); {
		n, width := 1, codes[i].width
		for i+n < len(codes) && codes[i+n].width == width {
			n++
		}
		i += n
		if width != 0 { // the first of a run is written by itself
			t.add(coded{code: width})
			n--
		}
		for n > 0 {
			switch {
			case width == 0 && n >= 11:
				run := min(n, 138)
				t.add(coded{manyZeros, run - 11, 7})
				n -= run
			case width == 0 && n >= 3:
				t.add(coded{zeros, n - 3, 3})
				n = 0
			case width != 0 && n >= 3:
				run := min(n, 6)
				t.add(coded{repeatLast, run - 3, 2})
				n -= run
			default:
				t.add(coded{code: width})
				n--
			}
		}
	}
}

func (t *lengthTable) add(c coded) {
	t.runs = append(t.runs, c)
	t.times[c.code]++
}

// size returns the number of bits that write puts.
func (t *lengthTable) size() int {
	n := 5 + 5 + 4 + 3*t.used + t.tree.bits(t.times[:])
	for _, r := range t.runs {
		n += r.width
	}
	return n
}

func (t *lengthTable) write(out *bitWriter) {
	out.put(t.literals-257, 5)
	out.put(t.distances-1, 5)
	out.put(t.used-4, 4)
	for _, code := range lengthOrder[:t.used] {
		out.put(t.tree[code].width, 3)
	}
	for _, r := range t.runs {
		t.tree.put(out, r.code)
		out.put(r.extra, r.width)
	}
}
