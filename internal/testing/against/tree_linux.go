package against

import (
	"bytes"
	"os"
	"strconv"
	"time"
)

// ticks is the unit of /proc: USER_HZ, which is 100 on every Linux that Go runs on.
const ticks = time.Second / 100

// TreeTime returns the CPU time of this process and of all that it started, such as
// the servers of package dbserver. Unlike the wall, it hardly knows of other load.
func TreeTime() (total time.Duration) {
	parents := make(map[int][]int)
	times := make(map[int]time.Duration)
	processes, err := os.ReadDir("/proc")
	if err != nil {
		panic(err)
	}
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + p.Name() + "/stat")
		if err != nil {
			continue // it has ended
		}
		// The name, in parentheses, may hold anything.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		number := func(i int) int { n, _ := strconv.Atoi(string(fields[i])); return n }
		parents[number(1)] = append(parents[number(1)], pid)
		times[pid] = time.Duration(number(11)+number(12)+number(13)+number(14)) * ticks
	}
	var add func(pid int)
	add = func(pid int) {
		total += times[pid]
		for _, child := range parents[pid] {
			add(child)
		}
	}
	add(os.Getpid())
	return total
}
