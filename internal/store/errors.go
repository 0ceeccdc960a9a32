package store

import (
	"errors"
	"fmt"
)

// ErrNotFound says that no object has this key.
var ErrNotFound = errors.New("not found")

// ErrOvertaken ends a watch whose reader was slower than the history budget allows. The client starts again from a list.
var ErrOvertaken = errors.New("the watch fell behind the history kept in memory: list again and watch from there")

// ErrUnregistered ends reads and watches of a resource that Unregister took away.
var ErrUnregistered = errors.New("the resource is no longer served")

// ErrClosed is returned by a watch that was closed, or whose store has stopped.
var ErrClosed = errors.New("the watch is closed")

// Reason says how a change and the stored state disagree.
type Reason string

// The three ways a transaction can fail on a key.
const (
	Exists  Reason = "exists"  // a create found the key taken
	Gone    Reason = "gone"    // the object to change is deleted
	Changed Reason = "changed" // the object was written since
)

// Conflict is Commit's error when the stored state is not what a change was computed from. By the time it is returned
// the conflicting state is applied, so a read with Any sees it.
type Conflict struct {
	Change  int // index into Commit's changes: the first that failed, as far as can still be told
	Reason  Reason
	Current *Entry // the state found; nil when it is gone (again), or cannot be read
	Key     string
}

func (e *Conflict) Error() string {
	return fmt.Sprintf("change %d: %s: the stored object %s: read it and apply the change again", e.Change, e.Key, e.Reason)
}

// TooLargeRevision says that a read asked for a revision that did not come within the time allowed (3 s).
type TooLargeRevision struct{ Asked, Applied int64 }

func (e *TooLargeRevision) Error() string {
	return fmt.Sprintf("revision %d is asked for, but this server has only seen %d: retry, or read without resourceVersion", e.Asked, e.Applied)
}

// Expired says that a revision is compacted away.
type Expired struct {
	Revision int64
	// Continue, on the error of a paged list, goes on at the latest revision: what it yields does not fit the pages before exactly.
	Continue string
}

func (e *Expired) Error() string {
	return fmt.Sprintf("revision %d is too old: its history is compacted away; list again", e.Revision)
}

// InvalidContinue says that a continue token was not made by this store for this list.
type InvalidContinue struct{ Why string }

func (e *InvalidContinue) Error() string {
	return "continue token is not valid: " + e.Why + ": start the list again"
}

// TooLarge says that etcd refuses an object for its size.
type TooLarge struct {
	Key  string
	Size int // bytes of the request
}

func (e *TooLarge) Error() string {
	return fmt.Sprintf("%s is %d bytes as stored, more than etcd takes in one request: make the object smaller", e.Key, e.Size)
}

// NoSpace says that a write is refused to keep etcd's disk from filling up.
type NoSpace struct {
	Free, Reserve uint64
	Err           error // etcd's own refusal, if it was etcd: its quota is used up
}

func (e *NoSpace) Unwrap() error { return e.Err }

func (e *NoSpace) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("etcd's storage quota is used up: delete objects, then compact, defragment and disarm its alarm: %v", e.Err)
	}
	return fmt.Sprintf("only %d MiB are free where etcd writes, %d MiB are kept in reserve: free disk space; deletes still work", e.Free>>20, e.Reserve>>20)
}

// Corrupt says that the stored value of one key cannot be decrypted or decoded. The key is left out of lists.
type Corrupt struct {
	Key   string
	Entry *Entry // Namespace, Name and Revision only; nil unless known. A Change with Was set to it can delete or replace the key
	Err   error
}

func (e *Corrupt) Error() string {
	return fmt.Sprintf("the stored value of %s cannot be read: restore its encryption key, or delete the key: %v", e.Key, e.Err)
}

func (e *Corrupt) Unwrap() error { return e.Err }
