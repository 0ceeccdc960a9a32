package controllers

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"canopus/internal/auth"
)

// steadyCA is the certificate of an authority, the same each time: bundles are called after what they hold.
func steadyCA(t *testing.T, name string) []byte {
	t.Helper()
	k := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Unix(1_700_000_000, 0), NotAfter: time.Unix(2_700_000_000, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// credentialScenarios are of tokens and certificates.
func credentialScenarios(t *testing.T) []*scenario {
	_, authority := withAuthority(t)
	keyed := func(c *Config) { authority(c, nil) }
	requests := look{"certificates.k8s.io/v1/certificatesigningrequests", []string{"status.conditions", "status.certificate|certificate?"}}
	request := func(c *cluster, user *auth.User, signer string, subject pkix.Name) {
		client, err := kubernetes.NewForConfig(c.server.As(user))
		if err != nil {
			c.t.Fatal(err)
		}
		ask(c.t, client, "n1", signer, subject, certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth)
	}
	ofPod := func(c *cluster) {
		k := newKey(c.t)
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, k)
		if err != nil {
			c.t.Fatal(err)
		}
		_, err = c.CertificatesV1().PodCertificateRequests("default").Create(c.t.Context(), &certificatesv1.PodCertificateRequest{
			ObjectMeta: metav1.ObjectMeta{Name: "web"},
			Spec: certificatesv1.PodCertificateRequestSpec{
				SignerName: "example.com/own", PodName: "web", PodUID: "1", ServiceAccountName: "default", ServiceAccountUID: "2",
				NodeName: "n1", NodeUID: "3", StubPKCS10Request: der,
			},
		}, metav1.CreateOptions{})
		if err != nil {
			c.t.Fatal(err)
		}
	}
	node := &auth.User{Name: "system:node:n1", Groups: []string{auth.NodesGroup, auth.MastersGroup, auth.AuthenticatedGroup}}
	nodes := pkix.Name{CommonName: "system:node:n1", Organization: []string{auth.NodesGroup}}
	bootstrap := func(id, expiration string) string {
		return "{apiVersion: v1, kind: Secret, metadata: {name: bootstrap-token-" + id + ", namespace: kube-system}, type: bootstrap.kubernetes.io/token, stringData: {token-id: " + id + ", token-secret: 0123456789abcdef, usage-bootstrap-signing: 'true', expiration: '" + expiration + "'}}\n"
	}
	return []*scenario{
		// Not the accounts' lists of Secrets: who never saw a Secret cannot know that it was there, and leaves it listed as upstream does.
		{controller: "serviceaccount-token-controller", tune: keyed, looks: []look{{"secrets", []string{"metadata.annotations", "data.token|token?"}}},
			steps: []func(*cluster){
				add("{apiVersion: v1, kind: ServiceAccount, metadata: {name: web}, secrets: [{name: web-token}]}\n---\n{apiVersion: v1, kind: Secret, metadata: {name: web-token, annotations: {kubernetes.io/service-account.name: web}}, type: kubernetes.io/service-account-token}\n"),
				remove("secrets", "web-token", background),
				add("{apiVersion: v1, kind: Secret, metadata: {name: lost, annotations: {kubernetes.io/service-account.name: gone}}, type: kubernetes.io/service-account-token}\n"),
			}},
		{controller: "legacy-serviceaccount-token-cleaner-controller", unqueued: true, later: 2000 * hour, faster: 1e6, // a look every 86 ms, two of them in a period
			tune:  func(c *Config) { c.UnusedTokens = 48 * hour },
			looks: []look{{"secrets", []string{"metadata.labels"}}},
			steps: []func(*cluster){add(`{apiVersion: v1, kind: ConfigMap, metadata: {name: kube-apiserver-legacy-service-account-token-tracking, namespace: kube-system}, data: {since: '2020-01-01'}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: web}, secrets: [{name: unused}, {name: forgotten}]}
---
{apiVersion: v1, kind: Secret, metadata: {name: made, annotations: {kubernetes.io/service-account.name: web}}, type: kubernetes.io/service-account-token}
---
{apiVersion: v1, kind: Secret, metadata: {name: unused, annotations: {kubernetes.io/service-account.name: web}}, type: kubernetes.io/service-account-token}
---
{apiVersion: v1, kind: Secret, metadata: {name: forgotten, labels: {kubernetes.io/legacy-token-invalid-since: '2020-01-01'}, annotations: {kubernetes.io/service-account.name: web}}, type: kubernetes.io/service-account-token}
`)}},
		{controller: "bootstrap-signer-controller", looks: []look{{"configmaps", []string{"data"}}},
			steps: []func(*cluster){
				add("{apiVersion: v1, kind: ConfigMap, metadata: {name: cluster-info, namespace: kube-public}, data: {kubeconfig: text}}\n---\n" + bootstrap("aaaaaa", "")),
				patch("secrets", "kube-system/bootstrap-token-aaaaaa", `{"data":{"usage-bootstrap-signing":"ZmFsc2U="}}`),
			}},
		{controller: "token-cleaner-controller", looks: []look{{"secrets", nil}},
			steps: []func(*cluster){add(bootstrap("aaaaaa", "2020-01-01T00:00:00Z") + "---\n" + bootstrap("bbbbbb", "2020-01-01T00:00:00Z") + "---\n" + bootstrap("cccccc", ""))}},
		{controller: "certificatesigningrequest-signing-controller", tune: keyed, beside: []string{"certificatesigningrequest-approving-controller"}, looks: []look{requests},
			steps: []func(*cluster){func(c *cluster) { request(c, node, certificatesv1.KubeAPIServerClientKubeletSignerName, nodes) }}},
		{controller: "certificatesigningrequest-approving-controller", looks: []look{requests},
			steps: []func(*cluster){func(c *cluster) { request(c, node, certificatesv1.KubeAPIServerClientKubeletSignerName, nodes) }}},
		{controller: "certificatesigningrequest-cleaner-controller", later: 48 * hour, looks: []look{requests},
			steps: []func(*cluster){func(c *cluster) { request(c, node, "example.com/own", nodes) }}},
		{controller: "kube-apiserver-serving-clustertrustbundle-publisher-controller", looks: []look{{"certificates.k8s.io/v1/clustertrustbundles", []string{"spec.signerName"}}},
			tune: func(c *Config) { c.RootCA = steadyCA(t, "now") },
			steps: []func(*cluster){func(c *cluster) {
				const signer = "kubernetes.io/kube-apiserver-serving"
				_, err := c.CertificatesV1().ClusterTrustBundles().Create(c.t.Context(), &certificatesv1.ClusterTrustBundle{
					ObjectMeta: metav1.ObjectMeta{Name: "kubernetes.io:kube-apiserver-serving:former"},
					Spec:       certificatesv1.ClusterTrustBundleSpec{SignerName: signer, TrustBundle: string(steadyCA(t, "former"))},
				}, metav1.CreateOptions{})
				if err != nil {
					c.t.Fatal(err)
				}
			}}},
		{controller: "podcertificaterequest-cleaner-controller", later: hour, looks: []look{{"certificates.k8s.io/v1/podcertificaterequests", nil}},
			steps: []func(*cluster){ofPod}},
	}
}
