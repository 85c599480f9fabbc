package programs

import "slices"

// shrink makes a program as short as it can be while it still fails.
func shrink(p program, fails func(program) bool) program {
	for {
		before := len(p.steps)
		p = lowerRows(leaveOut(p, fails), fails)
		if len(p.steps) == before {
			return p
		}
	}
}

// leaveOut leaves out steps for as long as the program still fails, first many at a
// time and in the end each by itself.
func leaveOut(p program, fails func(program) bool) program {
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

// lowerRows uses rows that were inserted earlier, where the program still fails with
// them: those between are then left out.
func lowerRows(p program, fails func(program) bool) program {
	for from := 1; from < 4; from++ {
		for to := range from {
			lower := p
			lower.steps = slices.Clone(p.steps)
			for i := range lower.steps {
				if lower.steps[i].row == from {
					lower.steps[i].row = to
				}
			}
			if fails(lower) {
				p = lower
				break
			}
		}
	}
	return p
}
