package plugins

import (
	"context"
	"fmt"

	"canopus/internal/admission"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// certificate lets a node ask for certificates of its own pods only, in the names that these have, from signers that they mount
// certificates of. Signers trust what is said here.
func (n *NodeRestriction) certificate(ctx context.Context, r *admission.Request, self string) error {
	if r.Operation != admission.Create || r.Subresource != "" {
		return forbidden(r, fmt.Sprintf("unexpected operation %q on subresource %q of a pod certificate request, node %q can only create them", r.Operation, r.Subresource, self))
	}
	asked, ok := r.Object.(*certificatesv1.PodCertificateRequest)
	if !ok {
		return forbidden(r, fmt.Sprintf("unexpected type %T", r.Object))
	}
	if string(asked.Spec.NodeName) != self {
		return forbidden(r, fmt.Sprintf("spec.nodeName=%q, which is not the requesting node %q", asked.Spec.NodeName, self))
	}
	node, err := n.nodes.Get(self)
	if apierrors.IsNotFound(err) {
		node, err = n.client.CoreV1().Nodes().Get(ctx, self, metav1.GetOptions{})
	}
	switch {
	case err != nil:
		return forbidden(r, fmt.Sprintf("error looking up node %s to verify uid: %v", self, err))
	case node.UID != asked.Spec.NodeUID:
		return forbidden(r, fmt.Sprintf("spec.nodeUID=%q, but the UID of node %s is %q", asked.Spec.NodeUID, self, node.UID))
	}
	pod, err := n.pods.Pods(r.Namespace).Get(asked.Spec.PodName)
	if apierrors.IsNotFound(err) {
		pod, err = n.client.CoreV1().Pods(r.Namespace).Get(ctx, asked.Spec.PodName, metav1.GetOptions{})
	}
	if err != nil {
		return forbidden(r, fmt.Sprintf("error looking up pod %s: %v", asked.Spec.PodName, err))
	}
	if why := refuseCertificate(asked, pod, self); why != "" {
		return forbidden(r, why)
	}
	account, err := n.accounts.ServiceAccounts(r.Namespace).Get(asked.Spec.ServiceAccountName)
	if apierrors.IsNotFound(err) {
		account, err = n.client.CoreV1().ServiceAccounts(r.Namespace).Get(ctx, asked.Spec.ServiceAccountName, metav1.GetOptions{})
	}
	switch {
	case err != nil:
		return forbidden(r, fmt.Sprintf("error looking up service account %s: %v", asked.Spec.ServiceAccountName, err))
	case account.UID != asked.Spec.ServiceAccountUID:
		return forbidden(r, fmt.Sprintf("spec.serviceAccountUID=%q, but the UID of service account %s is %q", asked.Spec.ServiceAccountUID, account.Name, account.UID))
	}
	return nil
}

// refuseCertificate says why pod is not the one whose certificate is asked for, or "".
func refuseCertificate(asked *certificatesv1.PodCertificateRequest, pod *corev1.Pod, self string) string {
	switch spec := &asked.Spec; {
	case pod.UID != spec.PodUID:
		return fmt.Sprintf("spec.podUID=%q, but the UID of pod %s is %q", spec.PodUID, pod.Name, pod.UID)
	case pod.Spec.NodeName != self:
		return fmt.Sprintf("pod %s is not scheduled on the requesting node %q", pod.Name, self)
	case isMirror(pod):
		return fmt.Sprintf("pod %s is a mirror pod, which gets no certificates", pod.Name)
	case pod.Spec.ServiceAccountName != spec.ServiceAccountName:
		return fmt.Sprintf("spec.serviceAccountName=%q, but pod %s runs as %q", spec.ServiceAccountName, pod.Name, pod.Spec.ServiceAccountName)
	case !projectsCertificate(pod, spec.SignerName):
		return fmt.Sprintf("pod %s has no podCertificate volume with signerName %q", pod.Name, spec.SignerName)
	}
	return ""
}

func projectsCertificate(pod *corev1.Pod, signer string) bool {
	for _, v := range pod.Spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.PodCertificate != nil && s.PodCertificate.SignerName == signer {
				return true
			}
		}
	}
	return false
}
