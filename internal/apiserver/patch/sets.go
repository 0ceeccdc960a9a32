package patch

import (
	"fmt"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

const (
	maxSets    = 512     // parsed sets kept
	maxSetSize = 4 << 10 // bytes of the longest one kept
)

// setCache keeps parsed field sets by their JSON. Objects of one kind that are made alike have equal sets, so few entries
// serve many objects. Safe for concurrent use; what it returns must not be changed.
type setCache struct {
	mu   sync.Mutex
	sets map[string]*fieldpath.Set
}

func (c *setCache) parse(f *metav1.FieldsV1) (*fieldpath.Set, error) {
	raw := f.GetRawBytes()
	c.mu.Lock()
	set, ok := c.sets[string(raw)]
	c.mu.Unlock()
	if ok {
		return set, nil
	}
	set = &fieldpath.Set{}
	if err := set.FromJSON(f.GetRawReader()); err != nil {
		return nil, fmt.Errorf("read a set of fields: %w", err)
	}
	if len(raw) > maxSetSize {
		return set, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sets == nil || len(c.sets) >= maxSets { // start anew: what is in use comes back at once
		c.sets = make(map[string]*fieldpath.Set)
	}
	c.sets[string(raw)] = set
	return set, nil
}

// format returns the set's JSON.
func (c *setCache) format(set *fieldpath.Set) (*metav1.FieldsV1, error) {
	raw, err := set.ToJSON()
	if err != nil {
		return nil, fmt.Errorf("write a set of fields: %w", err)
	}
	return metav1.NewFieldsV1(string(raw)), nil
}
