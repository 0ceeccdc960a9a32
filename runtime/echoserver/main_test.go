package main

import (
	"bufio"
	"context"
	"net"
	"testing"
)

func TestServe(t *testing.T) {
	t.Parallel()
	streams, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, "me", streams, packets) }()
	for network, address := range map[string]string{"tcp": streams.Addr().String(), "udp": packets.LocalAddr().String()} {
		conn, err := net.Dial(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for range 2 {
			if _, err := conn.Write([]byte("hello\n")); err != nil {
				t.Fatal(err)
			}
			if got, err := bufio.NewReader(conn).ReadString('\n'); err != nil || got != "me hello\n" {
				t.Errorf("%s: %q, %v", network, got, err)
			}
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
