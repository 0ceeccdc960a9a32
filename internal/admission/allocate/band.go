package allocate

import (
	"math/rand/v2"
	"net/netip"
)

// band is a range of offsets of which the lower part is kept, as far as possible, for those who ask for a certain one.
type band struct {
	size   uint64
	static uint64 // the first so many
}

// addressBand has upstream's static part: a sixteenth, of at least 16 and at most 256 addresses. The network's own address and, for
// IPv4, the broadcast address are no offsets.
func addressBand(cidr netip.Prefix) band {
	bits := cidr.Addr().BitLen() - cidr.Bits()
	all := uint64(1) << min(bits, 62)
	hosts := all - 1
	if cidr.Addr().Is4() {
		hosts--
	}
	return band{size: hosts, static: static(all, 16, 16, 256)}
}

// portBand has upstream's static part: a 32nd, of at least 16 and at most 128 ports.
func portBand(p Ports) band {
	size := uint64(p.Last-p.First) + 1
	return band{size: size, static: static(size, 32, 16, 128)}
}

// static is size/part within bounds; nothing of ranges too small to divide.
func static(size, part, least, most uint64) uint64 {
	if size <= least {
		return 0
	}
	return min(max(size/part, least), most)
}

// scanLimit bounds the offsets tried one by one when a range is nearly full.
const scanLimit = 1 << 16

// pick returns an offset that free accepts, trying the dynamic part first. ok is false when there is none.
func (b band) pick(free func(uint64) bool) (offset uint64, ok bool) {
	if offset, ok = pickIn(b.static, b.size, free); ok {
		return offset, true
	}
	return pickIn(0, b.static, free)
}

func pickIn(first, end uint64, free func(uint64) bool) (uint64, bool) {
	n := end - first
	if n == 0 {
		return 0, false
	}
	// From a random start, so that writers at the same time rarely want the same.
	start := rand.Uint64N(n)
	for i := range min(n, scanLimit) {
		if o := first + (start+i)%n; free(o) {
			return o, true
		}
	}
	return 0, false
}
