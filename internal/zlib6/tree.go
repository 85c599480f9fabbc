package zlib6

import (
	"math/bits"
	"slices"
)

// code is a Huffman code: its bits, the first one lowest, and how many there are.
type code struct{ bits, width int }

// tree is the codes of an alphabet.
type tree []code

// used returns the size of the alphabet up to the last symbol with a code.
func (t tree) used() int {
	n := len(t)
	for t[n-1].width == 0 {
		n--
	}
	return n
}

// bits returns the size of symbols that occur so many times.
func (t tree) bits(times []int) (n int) {
	for symbol, times := range times {
		n += times * t[symbol].width
	}
	return n
}

func (t tree) put(out *bitWriter, symbol int) { out.put(t[symbol].bits, t[symbol].width) }

// number assigns the codes, given their widths (RFC 1951, section 3.2.2).
func (t tree) number() {
	var next [17]int
	for _, c := range t {
		next[c.width+1]++
	}
	next[1] = 0 // symbols without a code
	for width := 1; width < len(next); width++ {
		next[width] = (next[width-1] + next[width]) << 1
	}
	for i, c := range t {
		if c.width == 0 {
			continue
		}
		t[i].bits = int(bits.Reverse16(uint16(next[c.width])) >> (16 - c.width))
		next[c.width]++
	}
}

// fixedLiterals and fixedDistances are the fixed codes (RFC 1951, section 3.2.6).
var (
	fixedLiterals = func() tree {
		t := make(tree, 288)
		for i := range t {
			switch {
			case i < 144, i >= 280:
				t[i].width = 8
			case i < 256:
				t[i].width = 9
			default:
				t[i].width = 7
			}
		}
		t.number()
		return t
	}()
	fixedDistances = func() tree {
		t := make(tree, distanceCodes)
		for i := range t {
			t[i] = code{int(bits.Reverse8(uint8(i)) >> 3), 5}
		}
		return t
	}()
)

// newTree returns the codes for symbols that occur so many times, none longer than
// maxWidth.
func newTree(times []int, maxWidth int) tree {
	h := newHeap(times)
	nodes := h.join()
	// From the root to the leaves, each node is a bit longer than its parent.
	var count [16]int // leaves of each width
	width := make([]int, len(h.nodes))
	tooLong := 0
	for i, n := range nodes {
		if i > 0 {
			width[n] = width[h.nodes[n].parent] + 1
		}
		if width[n] > maxWidth {
			width[n] = maxWidth
			tooLong++
		}
		if n < len(times) {
			count[width[n]]++
		}
	}
	if tooLong > 0 {
		shorten(count[:maxWidth+1], tooLong)
		// The rarest symbols take the longest codes.
		rarest := slices.DeleteFunc(slices.Clone(nodes), func(n int) bool { return n >= len(times) })
		slices.Reverse(rarest)
		for w := maxWidth; w > 0; w-- {
			for ; count[w] > 0; count[w]-- {
				width[rarest[0]] = w
				rarest = rarest[1:]
			}
		}
	}
	t := make(tree, len(times))
	for symbol := range t {
		t[symbol].width = width[symbol]
	}
	t.number()
	return t
}

// shorten makes room for codes that were cut to the longest width: it takes a leaf
// from the width above and hangs it and a cut one below.
func shorten(count []int, tooLong int) {
	longest := len(count) - 1
	for ; tooLong > 0; tooLong -= 2 {
		w := longest - 1
		for count[w] == 0 {
			w--
		}
		count[w]--
		count[w+1] += 2
		count[longest]--
	}
}

// node is a symbol, or two nodes joined.
type node struct{ times, depth, parent int }

// heap joins the two rarest nodes until there is one.
type heap struct {
	nodes []node // symbols first
	order []int  // the heap, from index 1
}

func newHeap(times []int) *heap {
	h := &heap{nodes: make([]node, len(times), 2*len(times)), order: []int{0}}
	last := -1
	for symbol, n := range times {
		if n > 0 {
			h.nodes[symbol].times = n
			h.order = append(h.order, symbol)
			last = symbol
		}
	}
	// A tree has two codes at least, even if a block needs fewer.
	for len(h.order) < 3 {
		symbol := 0
		if last < 2 {
			last++
			symbol = last
		}
		h.nodes[symbol].times = 1
		h.order = append(h.order, symbol)
	}
	for i := (len(h.order) - 1) / 2; i >= 1; i-- {
		h.down(i)
	}
	return h
}

// join returns all nodes, the root first and the rarest symbol last.
func (h *heap) join() (joined []int) {
	for len(h.order) > 2 {
		a := h.order[1]
		last := len(h.order) - 1
		h.order[1] = h.order[last]
		h.order = h.order[:last]
		h.down(1)
		b := h.order[1]
		joined = append(joined, a, b)
		parent := len(h.nodes)
		h.nodes[a].parent, h.nodes[b].parent = parent, parent
		h.nodes = append(h.nodes, node{
			times: h.nodes[a].times + h.nodes[b].times,
			depth: max(h.nodes[a].depth, h.nodes[b].depth) + 1,
		})
		h.order[1] = parent
		h.down(1)
	}
	joined = append(joined, h.order[1])
	slices.Reverse(joined)
	return joined
}

// less orders nodes: the rarest first, and of equally rare ones the shallowest. It
// reports true for equal ones, which decides between them.
func (h *heap) less(a, b int) bool {
	x, y := h.nodes[a], h.nodes[b]
	return x.times < y.times || x.times == y.times && x.depth <= y.depth
}

// down moves the node at i to its place below.
func (h *heap) down(i int) {
	v := h.order[i]
	for {
		below := 2 * i
		if below >= len(h.order) {
			break
		}
		if below+1 < len(h.order) && h.less(h.order[below+1], h.order[below]) {
			below++
		}
		if h.less(v, h.order[below]) {
			break
		}
		h.order[i] = h.order[below]
		i = below
	}
	h.order[i] = v
}
