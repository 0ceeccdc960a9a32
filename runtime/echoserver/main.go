// Command echoserver is in the image of the tests. It answers each line that it gets by TCP, and each datagram by UDP, with the
// host's name and the text.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

func main() {
	address := flag.String("listen", ":9000", "address to listen at, TCP and UDP")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, *address); err != nil {
		fmt.Fprintln(os.Stderr, "echoserver:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, address string) error {
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("find the host's name: %w", err)
	}
	var listen net.ListenConfig
	streams, err := listen.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer streams.Close()
	// The same port as the other's, also when that was chosen by the kernel.
	packets, err := listen.ListenPacket(ctx, "udp", streams.Addr().String())
	if err != nil {
		return err
	}
	defer packets.Close()
	return serve(ctx, host, streams, packets)
}

func serve(ctx context.Context, host string, streams net.Listener, packets net.PacketConn) error {
	var running sync.WaitGroup
	failed := make(chan error, 2)
	running.Go(func() { failed <- accept(host, streams) })
	running.Go(func() { failed <- answer(host, packets) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	err = errors.Join(err, streams.Close(), packets.Close())
	running.Wait()
	return err
}

func accept(host string, l net.Listener) error {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go func() { // ends with its connection, or with the process
			defer conn.Close()
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				if _, err := fmt.Fprintf(conn, "%s %s\n", host, lines.Text()); err != nil {
					return
				}
			}
		}()
	}
}

func answer(host string, c net.PacketConn) error {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		// One that cannot be answered has gone; the next one may not have.
		_, _ = c.WriteTo(append([]byte(host+" "), buf[:n]...), from)
	}
}
