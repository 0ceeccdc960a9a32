// Command keep runs canopus and starts it again when it dies, on machines without systemd. It holds the cluster DNS sockets
// across restarts, so that queries sent in between wait in the kernel instead of being refused.
//
//	keep -pid FILE [-dns ADDRESS:PORT] -- COMMAND ARGUMENT...
//
// The sockets are handed to the command as file descriptors 3 (UDP) and 4 (TCP), named by CANOPUS_DNS_FDS=3,4. SIGTERM and
// SIGINT are passed on; keep ends when the command ends by itself with exit code 0, or after it was told to stop.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

const (
	settled   = 3 * time.Second // a command that lived this long starts again at once
	firstWait = 50 * time.Millisecond
	lastWait  = 5 * time.Second
)

func main() {
	pid := flag.String("pid", "", "file to write our process id to")
	dns := flag.String("dns", "", "address and port to hold for the cluster's name server")
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*pid, *dns, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "keep:", err)
		os.Exit(1)
	}
}

func run(pidFile, dns string, command []string) error {
	if pidFile != "" {
		if err := os.WriteFile(pidFile, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
			return err
		}
		defer os.Remove(pidFile)
	}
	var sockets []*os.File
	if dns != "" {
		var err error
		if sockets, err = listen(dns); err != nil {
			return err
		}
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	for wait := firstWait; ; {
		began := time.Now()
		stopped, err := once(command, sockets, stop)
		if stopped || err == nil {
			return err
		}
		if time.Since(began) > settled {
			wait = firstWait
		}
		fmt.Fprintf(os.Stderr, "keep: %s ended (%v), starting it again in %v\n", command[0], err, wait)
		select {
		case <-stop:
			return nil
		case <-time.After(wait):
		}
		wait = min(wait*2, lastWait)
	}
}

// once runs the command until it ends, passing signals on. stopped says that we were told to stop.
func once(command []string, sockets []*os.File, stop <-chan os.Signal) (stopped bool, err error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = sockets
	if len(sockets) > 0 {
		cmd.Env = append(os.Environ(), "CANOPUS_DNS_FDS=3,4")
	}
	if err := cmd.Start(); err != nil {
		return true, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			return stopped, err
		case s := <-stop:
			stopped = true
			if err := cmd.Process.Signal(s); err != nil {
				return true, err
			}
		}
	}
}

// listen opens the UDP and the TCP socket. The address need not be on an interface yet: canopus puts it there.
func listen(address string) ([]*os.File, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = syscall.SetsockoptInt(int(fd), syscall.SOL_IP, syscall.IP_FREEBIND, 1)
		})
		if err != nil {
			return err
		}
		return failed
	}}
	ctx := context.Background()
	udp, err := config.ListenPacket(ctx, "udp4", address)
	if err != nil {
		return nil, err
	}
	defer udp.Close()
	tcp, err := config.Listen(ctx, "tcp4", address)
	if err != nil {
		return nil, err
	}
	defer tcp.Close()
	u, err := udp.(*net.UDPConn).File()
	if err != nil {
		return nil, err
	}
	t, err := tcp.(*net.TCPListener).File()
	if err != nil {
		return nil, err
	}
	return []*os.File{u, t}, nil
}
