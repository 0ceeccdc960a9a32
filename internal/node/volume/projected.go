package volume

import (
	"context"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// renewAt is the part of a token's life after which a new one is requested.
const renewAt = 0.8

// maxTokenAge is the age at which a token is renewed at the latest.
const maxTokenAge = 24 * time.Hour

func projectedFiles(ctx context.Context, w *written) (map[string]file, error) {
	src := w.Volume.Projected
	m := mode(src.DefaultMode)
	out := map[string]file{}
	w.refresh = time.Time{}
	for _, s := range src.Sources {
		var err error
		switch {
		case s.ConfigMap != nil:
			err = w.addConfigMap(out, s.ConfigMap.Name, s.ConfigMap.Items, m, isTrue(s.ConfigMap.Optional))
		case s.Secret != nil:
			err = w.addSecret(out, s.Secret.Name, s.Secret.Items, m, isTrue(s.Secret.Optional))
		case s.DownwardAPI != nil:
			err = w.addDownward(out, s.DownwardAPI.Items, m)
		case s.ServiceAccountToken != nil:
			err = w.addToken(ctx, out, s.ServiceAccountToken, m)
		default:
			err = fmt.Errorf("projected volume %q has a source that this node does not provide (clusterTrustBundle or podCertificate)", w.Volume.Name)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// addToken adds a token bound to the pod, the same one until it is time for the next.
func (w *written) addToken(ctx context.Context, out map[string]file, src *corev1.ServiceAccountTokenProjection, m os.FileMode) error {
	now := w.Host.Clock.Now()
	t, ok := w.tokens[src.Path]
	if !ok || !now.Before(t.refresh) {
		seconds := int64(3600)
		if src.ExpirationSeconds != nil {
			seconds = *src.ExpirationSeconds
		}
		value, expires, err := w.Host.Tokens.Token(ctx, w.Pod, src.Audience, seconds)
		switch {
		case err == nil:
			life := min(time.Duration(float64(expires.Sub(now))*renewAt), maxTokenAge)
			t = token{value, now.Add(life)}
			w.tokens[src.Path] = t
		case !ok:
			return fmt.Errorf("failed to fetch token: %w", err)
		default:
			// The old token still works for a while; try again soon.
			t.refresh = now.Add(time.Minute)
		}
	}
	if w.refresh.IsZero() || t.refresh.Before(w.refresh) {
		w.refresh = t.refresh
	}
	out[src.Path] = file{[]byte(t.value), tokenMode(w.Pod, m)}
	return nil
}

// tokenMode lets the pod's user read the token, and nobody else: the group by fsGroup, or everybody in the pod when
// its containers run as different users.
func tokenMode(pod *corev1.Pod, m os.FileMode) os.FileMode {
	if sc := pod.Spec.SecurityContext; sc != nil && sc.FSGroup != nil {
		return 0o600
	}
	return m
}
