package token

import (
	"crypto/sha256"
	"sync"
	"time"
)

// verdicts remembers for a while which tokens have a good signature, by the hash of the token. Bad ones are not remembered, so that
// nobody can push good ones out. Two generations bound it: the older is dropped when the younger is full.
type verdicts struct {
	ttl   time.Duration
	limit int

	mu         sync.RWMutex
	young, old map[tokenHash]verdict // guarded by mu
}

type tokenHash [sha256.Size]byte

type verdict struct {
	*verified
	made time.Time
}

func hash(token string) tokenHash { return sha256.Sum256([]byte(token)) }

// get returns what was found out about the token within the last ttl, or nil.
func (v *verdicts) get(key tokenHash, now time.Time) *verified {
	v.mu.RLock()
	have, ok := v.young[key]
	if !ok {
		have, ok = v.old[key]
	}
	v.mu.RUnlock()
	if age := now.Sub(have.made); ok && age >= 0 && age < v.ttl {
		return have.verified
	}
	return nil
}

// put remembers a token that was found good.
func (v *verdicts) put(key tokenHash, good *verified, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.young == nil || len(v.young) >= v.limit {
		v.old, v.young = v.young, map[tokenHash]verdict{}
	}
	v.young[key] = verdict{verified: good, made: now}
}
