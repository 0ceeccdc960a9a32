package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"canopus/test/plane"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	protoserializer "k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// stub is a process that answers every request with constant bytes, and sends every PUT to all open watches. What a client
// reaches against it is the limit that the client itself, TLS and Go's HTTP/2 set.
type stub struct {
	config  *rest.Config
	client  *kubernetes.Clientset
	process *exec.Cmd
}

func (b *bench) startStub(ctx context.Context) (*stub, error) {
	s := &stub{process: exec.CommandContext(ctx, "/proc/self/exe")}
	s.process.Env = append(os.Environ(), roleVariable+"="+roleStub)
	s.process.Stderr = os.Stderr
	out, err := s.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("the stub did not say where it listens: %w", err)
	}
	s.config = &rest.Config{
		Host: "https://" + strings.TrimSpace(address), BearerToken: "none",
		TLSClientConfig: rest.TLSClientConfig{Insecure: true}, // it makes its certificate itself
	}
	if s.client, err = plane.Client(s.config, plane.Protobuf, false); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *stub) stop() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait() // that it was killed is known
}

// serveStub is the stub's process. It says on out where it listens.
func serveStub(ctx context.Context, out io.Writer) error {
	certificate, err := selfSigned()
	if err != nil {
		return err
	}
	answer, err := newAnswers()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintln(out, l.Addr())
	s := &http.Server{
		Handler: answer, ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
	}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })() // its listener is all it has
	if err := s.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// answers serves the constant bytes.
type answers struct {
	namespace, configMap []byte
	frames               protoserializer.RawSerializer

	mu      sync.Mutex
	watches map[chan []byte]bool
}

func newAnswers() (*answers, error) {
	a := &answers{frames: *protoserializer.NewRawSerializer(scheme.Scheme, scheme.Scheme), watches: map[chan []byte]bool{}}
	meta := metav1.ObjectMeta{Name: "constant", ResourceVersion: "1", UID: "2b0c7a2e-7a0b-4a55-8a6c-0f0f0f0f0f0f"}
	var err error
	if a.namespace, err = encode(&corev1.Namespace{ObjectMeta: meta}); err != nil {
		return nil, err
	}
	a.configMap, err = encode(&corev1.ConfigMap{ObjectMeta: meta, Data: configMap(0).Data})
	return a, err
}

func encode(o runtime.Object) ([]byte, error) {
	var b bytes.Buffer
	s := protoserializer.NewSerializer(scheme.Scheme, scheme.Scheme)
	err := scheme.Codecs.EncoderForVersion(s, corev1.SchemeGroupVersion).Encode(o, &b)
	return b.Bytes(), err
}

// ServeHTTP implements http.Handler.
func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("watch") != "" {
		a.watch(w, r)
		return
	}
	sent, err := io.ReadAll(r.Body)
	if err == nil && r.Method == http.MethodPut {
		err = a.send(sent)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", plane.Protobuf)
	if r.Method == http.MethodPost {
		w.WriteHeader(http.StatusCreated)
	}
	body := a.configMap
	if !strings.Contains(r.URL.Path, "/configmaps") {
		body = a.namespace
	}
	_, _ = w.Write(body) // the client may have gone
}

func (a *answers) watch(w http.ResponseWriter, r *http.Request) {
	frames := make(chan []byte, fanoutUpdates+1)
	a.mu.Lock()
	a.watches[frames] = true
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.watches, frames)
	}()
	w.Header().Set("Content-Type", plane.Protobuf+";stream=watch")
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	if rc.Flush() != nil {
		return
	}
	for {
		select {
		case frame := <-frames:
			if _, err := w.Write(frame); err != nil {
				return
			}
			if len(frames) == 0 && rc.Flush() != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

// send gives object, as it came in the body, to every watch as one MODIFIED event. Frames fit: there is room for all of a run.
func (a *answers) send(object []byte) error {
	var b bytes.Buffer
	b.Write(make([]byte, 4))
	if err := a.frames.Encode(&metav1.WatchEvent{Type: "MODIFIED", Object: runtime.RawExtension{Raw: object}}, &b); err != nil {
		return err
	}
	frame := b.Bytes()
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	a.mu.Lock()
	defer a.mu.Unlock()
	for w := range a.watches {
		select {
		case w <- frame:
		default: // a watch of an earlier run whose end has not been noticed
		}
	}
	return nil
}
