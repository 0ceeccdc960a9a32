package patch

import (
	"fmt"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
)

const (
	maxOperations = 10_000    // in one JSON patch, as upstream
	maxGrowth     = 3 << 20   // bytes that the copy operations of one patch may add: the limit of a request body
	maxCopyWork   = 256 << 20 // bytes of document that the copy operations of one patch may walk
)

// operation is what a JSON patch may say; it exists to find fields that it may not.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	From  string `json:"from"`
	Value any    `json:"value"`
}

// applyJSON applies an RFC 6902 patch. One that is not well formed is a BadRequest; one that the object does not admit,
// such as a test that fails, is Invalid.
func (p Patch) applyJSON(current runtime.Object) (runtime.Object, []error, error) {
	strict, err := p.strictBody(&[]operation{}, "json patch ")
	if err != nil {
		return nil, nil, err
	}
	ops, err := jsonpatch.DecodePatch(p.Body)
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	if len(ops) > maxOperations {
		return nil, nil, apierrors.NewRequestEntityTooLargeError(
			fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", maxOperations, len(ops)))
	}
	before, err := asJSON(current, p.GVK)
	if err != nil {
		return nil, nil, err
	}
	after, err := runOperations(before, ops)
	if err != nil {
		return nil, nil, err
	}
	return p.decode(after, current, strict)
}

// runOperations applies ops in order. Copies run one at a time, because a few of them double a document each and would
// fill the memory before anything could be counted.
func runOperations(doc []byte, ops jsonpatch.Patch) ([]byte, error) {
	grown, walked := 0, 0
	for len(ops) > 0 {
		n := 0
		for n < len(ops) && ops[n].Kind() != "copy" {
			n++
		}
		isCopy := n == 0
		if isCopy {
			n = 1
		}
		after, err := applyOperations(doc, ops[:n])
		if err != nil {
			return nil, unprocessable(err)
		}
		if isCopy {
			grown += max(0, len(after)-len(doc))
			walked += len(after)
		}
		if grown > maxGrowth || walked > maxCopyWork {
			return nil, apierrors.NewRequestEntityTooLargeError("the copy operations of the patch multiply the object's size: send the values instead")
		}
		doc, ops = after, ops[n:]
	}
	return doc, nil
}

// applyOperations shields the server from a defect in the library: a panic there refuses the one patch.
func applyOperations(doc []byte, ops jsonpatch.Patch) (after []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			after, err = nil, fmt.Errorf("the patch cannot be applied: %v", r)
		}
	}()
	return ops.Apply(doc)
}
