package programs

import "slices"

// shrink leaves out steps for as long as the program still fails, first many at a
// time and in the end each by itself.
func shrink(p program, fails func(program) bool) program {
	for size := len(p.steps) / 2; size >= 1; {
		shorter := false
		for at := 0; at < len(p.steps); {
			without := p
			without.steps = slices.Delete(slices.Clone(p.steps), at, min(at+size, len(p.steps)))
			if fails(without) {
				p, shorter = without, true
			} else {
				at += size
			}
		}
		if !shorter || size > 1 {
			size /= 2
		}
	}
	return p
}
