package serviceaccounttoken

import (
	"bytes"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"canopus/internal/auth/token"
)

// belongs says whether s names account, and not one of the same name that was there before.
func belongs(s *corev1.Secret, account *corev1.ServiceAccount) bool {
	uid := s.Annotations[corev1.ServiceAccountUIDKey]
	return s.Annotations[corev1.ServiceAccountNameKey] == account.Name && (uid == "" || uid == string(account.UID))
}

// filled returns s with everything that its users read from it, or nil when it is all there.
func filled(s *corev1.Secret, account *corev1.ServiceAccount, ca []byte, keys *token.Keys) (*corev1.Secret, error) {
	whole := s.Annotations[corev1.ServiceAccountUIDKey] == string(account.UID) && bytes.Equal(s.Data[corev1.ServiceAccountRootCAKey], ca) &&
		string(s.Data[corev1.ServiceAccountNamespaceKey]) == s.Namespace && len(s.Data[corev1.ServiceAccountTokenKey]) > 0
	if whole {
		return nil, nil
	}
	next := s.DeepCopy()
	next.Annotations[corev1.ServiceAccountUIDKey] = string(account.UID)
	if next.Data == nil {
		next.Data = map[string][]byte{}
	}
	next.Data[corev1.ServiceAccountRootCAKey] = ca
	next.Data[corev1.ServiceAccountNamespaceKey] = []byte(s.Namespace)
	if len(next.Data[corev1.ServiceAccountTokenKey]) == 0 {
		text, err := keys.IssueLegacy(account, s.Name)
		if err != nil {
			return nil, err
		}
		next.Data[corev1.ServiceAccountTokenKey] = []byte(text)
	}
	return next, nil
}

func refers(account *corev1.ServiceAccount, secret string) bool {
	return slices.ContainsFunc(account.Secrets, func(r corev1.ObjectReference) bool { return r.Name == secret })
}

func without(refs []corev1.ObjectReference, secret string) []corev1.ObjectReference {
	return slices.DeleteFunc(refs, func(r corev1.ObjectReference) bool { return r.Name == secret })
}
