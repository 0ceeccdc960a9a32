package servingbundle

import (
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
)

func TestPlan(t *testing.T) {
	t.Parallel()
	want := bundle([]byte("new"))
	there := func(b *certificatesv1.ClusterTrustBundle) *certificatesv1.ClusterTrustBundle {
		b.ResourceVersion = "1"
		return b
	}
	former, spoilt, foreign := there(bundle([]byte("old"))), there(bundle([]byte("new"))), there(bundle([]byte("old")))
	spoilt.Spec.TrustBundle = "x"
	foreign.Spec.SignerName = "example.com/a"
	for name, c := range map[string]struct {
		all    []*certificatesv1.ClusterTrustBundle
		write  string // "", create, update
		remove int
	}{
		"none":           {nil, "create", 0},
		"there":          {[]*certificatesv1.ClusterTrustBundle{there(bundle([]byte("new")))}, "", 0},
		"spoilt":         {[]*certificatesv1.ClusterTrustBundle{spoilt}, "update", 0},
		"former":         {[]*certificatesv1.ClusterTrustBundle{former}, "create", 1},
		"both":           {[]*certificatesv1.ClusterTrustBundle{former, there(bundle([]byte("new")))}, "", 1},
		"somebody elses": {[]*certificatesv1.ClusterTrustBundle{foreign}, "create", 0},
	} {
		write, remove := plan(want, c.all)
		did := ""
		if write != nil {
			did = "create"
			if write.ResourceVersion != "" {
				did = "update"
			}
			if write.Spec != want.Spec {
				t.Errorf("%s: it would say %+v", name, write.Spec)
			}
		}
		if did != c.write || len(remove) != c.remove {
			t.Errorf("%s: %q, %d removed", name, did, len(remove))
		}
	}
	if !strings.HasPrefix(want.Name, "kubernetes.io:kube-apiserver-serving:") {
		t.Errorf("%s is no name for a bundle of the signer", want.Name)
	}
}

func TestAnchors(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "x", "-----BEGIN CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if Anchors([]byte(bad)) {
			t.Errorf("%q would be published", bad)
		}
	}
}
