package job

import (
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// indexSet is a set of completion indexes.
type indexSet map[int]bool

// parseIndexes reads "1,3-5,7"; what is malformed or not below limit is left out.
func parseIndexes(text string, limit int) indexSet {
	set := indexSet{}
	for part := range strings.SplitSeq(text, ",") {
		a, b, ranged := strings.Cut(part, "-")
		if !ranged {
			b = a
		}
		from, err := strconv.Atoi(a)
		if err != nil {
			continue
		}
		to, err := strconv.Atoi(b)
		if err != nil {
			continue
		}
		for i := max(from, 0); i <= to && i < limit; i++ {
			set[i] = true
		}
	}
	return set
}

// String writes the indexes in order; three or more in a row are a range.
func (s indexSet) String() string {
	sorted := make([]int, 0, len(s))
	for i := range s {
		sorted = append(sorted, i)
	}
	slices.Sort(sorted)
	var out []string
	for i := 0; i < len(sorted); {
		end := i
		for end+1 < len(sorted) && sorted[end+1] == sorted[end]+1 {
			end++
		}
		switch {
		case end-i >= 2:
			out = append(out, strconv.Itoa(sorted[i])+"-"+strconv.Itoa(sorted[end]))
		default:
			for k := i; k <= end; k++ {
				out = append(out, strconv.Itoa(sorted[k]))
			}
		}
		i = end + 1
	}
	return strings.Join(out, ",")
}

// indexOf is the completion index of p, -1 if it has none.
func indexOf(p *corev1.Pod) int {
	n, err := strconv.Atoi(p.Annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil || n < 0 {
		return -1
	}
	return n
}

func annotatedCount(p *corev1.Pod, key string) int32 {
	n, err := strconv.ParseInt(p.Annotations[key], 10, 32)
	if err != nil {
		return 0
	}
	return int32(n)
}

// metRule is the first rule of the success policy that done meets, -1 if none.
func metRule(policy *batchv1.SuccessPolicy, done indexSet, limit int) int {
	if policy == nil {
		return -1
	}
	for i, r := range policy.Rules {
		within := done
		need := 0
		if r.SucceededIndexes != nil {
			want := parseIndexes(*r.SucceededIndexes, limit)
			within = indexSet{}
			for index := range want {
				if done[index] {
					within[index] = true
				}
			}
			need = len(want)
		}
		if r.SucceededCount != nil {
			need = int(*r.SucceededCount)
		}
		if need > 0 && len(within) >= need {
			return i
		}
	}
	return -1
}
