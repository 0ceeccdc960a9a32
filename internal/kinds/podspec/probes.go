package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds/check"
)

func validateProbe(p *corev1.Probe, grace *int64, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	h := corev1.LifecycleHandler{Exec: p.Exec, HTTPGet: p.HTTPGet, TCPSocket: p.TCPSocket}
	errs := validateHandler(&h, p.GRPC, grace, path)
	errs = append(errs, check.NonNegative(p.InitialDelaySeconds, path.Child("initialDelaySeconds"))...)
	errs = append(errs, check.NonNegative(p.TimeoutSeconds, path.Child("timeoutSeconds"))...)
	errs = append(errs, check.NonNegative(p.PeriodSeconds, path.Child("periodSeconds"))...)
	errs = append(errs, check.NonNegative(p.SuccessThreshold, path.Child("successThreshold"))...)
	errs = append(errs, check.NonNegative(p.FailureThreshold, path.Child("failureThreshold"))...)
	if s := p.TerminationGracePeriodSeconds; s != nil && *s <= 0 {
		errs = append(errs, field.Invalid(path.Child("terminationGracePeriodSeconds"), *s, check.NotPositive))
	}
	return errs
}

func validateLifecycle(l *corev1.Lifecycle, grace *int64, path *field.Path) field.ErrorList {
	if l == nil {
		return nil
	}
	var errs field.ErrorList
	if l.PostStart != nil {
		errs = append(errs, validateHandler(l.PostStart, nil, grace, path.Child("postStart"))...)
	}
	if l.PreStop != nil {
		errs = append(errs, validateHandler(l.PreStop, nil, grace, path.Child("preStop"))...)
	}
	return errs
}

// validateHandler checks what a probe or hook does; it does exactly one thing.
func validateHandler(h *corev1.LifecycleHandler, rpc *corev1.GRPCAction, grace *int64, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	actions := 0
	add := func(name string, validate func(*field.Path) field.ErrorList) {
		actions++
		if actions > 1 {
			errs = append(errs, field.Forbidden(path.Child(name), "may not specify more than 1 handler type"))
			return
		}
		errs = append(errs, validate(path.Child(name))...)
	}
	if h.Exec != nil {
		add("exec", func(at *field.Path) field.ErrorList {
			if len(h.Exec.Command) == 0 {
				return field.ErrorList{field.Required(at.Child("command"), "")}
			}
			return nil
		})
	}
	if h.HTTPGet != nil {
		add("httpGet", func(at *field.Path) field.ErrorList { return validateHTTPGet(h.HTTPGet, at) })
	}
	if h.TCPSocket != nil {
		add("tcpSocket", func(at *field.Path) field.ErrorList { return check.PortOrName(h.TCPSocket.Port, at.Child("port")) })
	}
	if rpc != nil {
		add("grpc", func(at *field.Path) field.ErrorList { return check.Port(rpc.Port, at.Child("port")) })
	}
	if h.Sleep != nil {
		add("sleep", func(at *field.Path) field.ErrorList { return validateSleep(h.Sleep.Seconds, grace, at) })
	}
	if actions == 0 {
		errs = append(errs, field.Required(path, "must specify a handler type"))
	}
	return errs
}

func validateSleep(seconds int64, grace *int64, path *field.Path) field.ErrorList {
	if grace == nil || (seconds >= 0 && seconds <= *grace) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, seconds,
		fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", *grace))}
}

func validateHTTPGet(h *corev1.HTTPGetAction, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if h.Path == "" {
		errs = append(errs, field.Required(path.Child("path"), ""))
	}
	errs = append(errs, check.PortOrName(h.Port, path.Child("port"))...)
	errs = append(errs, check.OneOf(corev1.URIScheme(strings.ToUpper(string(h.Scheme))), path.Child("scheme"), corev1.URISchemeHTTP, corev1.URISchemeHTTPS)...)
	for i, header := range h.HTTPHeaders {
		errs = append(errs, invalids(path.Child("httpHeaders").Index(i).Child("name"), header.Name, validation.IsHTTPHeaderName(header.Name))...)
	}
	return errs
}
