package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Sockets are where questions arrive. A parent process that outlives the server may open them and hand them down, so that
// questions asked while there is no server wait instead of being refused.
type Sockets struct {
	address netip.AddrPort
	udp     net.PacketConn
	tcp     net.Listener
}

// loopback is the interface that carries the cluster DNS address on every node.
const loopback = "lo"

// Open puts the address on the loopback interface if this machine does not have it, and listens on it.
func Open(ctx context.Context, address netip.AddrPort) (*Sockets, error) {
	if err := addAddress(address.Addr()); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	tcp, err := lc.Listen(ctx, "tcp", address.String())
	if err != nil {
		return nil, fmt.Errorf("dns: listen: %w", err)
	}
	// With port 0 both get the one that the first was given.
	address = tcp.Addr().(*net.TCPAddr).AddrPort()
	udp, err := lc.ListenPacket(ctx, "udp", address.String())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("dns: listen: %w", err), tcp.Close())
	}
	return &Sockets{address: address, udp: udp, tcp: tcp}, nil
}

// Inherit takes over sockets from a parent: the files of its Files, in that order. The files are closed. Like Open it puts the
// address on the loopback interface: a parent can listen on an address that is not there yet.
func Inherit(files []*os.File) (*Sockets, error) {
	if len(files) != 2 {
		return nil, fmt.Errorf("dns: %d sockets were handed down instead of 2", len(files))
	}
	defer files[0].Close()
	defer files[1].Close()
	udp, err := net.FilePacketConn(files[0])
	if err != nil {
		return nil, fmt.Errorf("dns: take over the UDP socket: %w", err)
	}
	tcp, err := net.FileListener(files[1])
	if err != nil {
		return nil, errors.Join(fmt.Errorf("dns: take over the TCP socket: %w", err), udp.Close())
	}
	address, ok := tcp.Addr().(*net.TCPAddr)
	if !ok {
		return nil, errors.Join(fmt.Errorf("dns: the second socket handed down is no TCP socket but %s", tcp.Addr().Network()), udp.Close(), tcp.Close())
	}
	if err := addAddress(address.AddrPort().Addr()); err != nil {
		return nil, errors.Join(err, udp.Close(), tcp.Close())
	}
	return &Sockets{address: address.AddrPort(), udp: udp, tcp: tcp}, nil
}

// Files returns duplicates of the sockets for a child process (exec.Cmd.ExtraFiles): UDP, then TCP.
func (s *Sockets) Files() ([]*os.File, error) {
	var files []*os.File
	for _, socket := range []any{s.udp, s.tcp} {
		f, err := socket.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			return nil, fmt.Errorf("dns: duplicate a socket: %w", err)
		}
		files = append(files, f)
	}
	return files, nil
}

// Address is where questions arrive.
func (s *Sockets) Address() netip.AddrPort { return s.address }

// Close stops listening. The address stays on the interface: see Reset.
func (s *Sockets) Close() error { return errors.Join(s.udp.Close(), s.tcp.Close()) }

func addAddress(ip netip.Addr) error {
	if ip.IsLoopback() {
		return nil
	}
	lo, err := netlink.LinkByName(loopback)
	if err != nil {
		return fmt.Errorf("dns: find the interface %s: %w", loopback, err)
	}
	addr := &netlink.Addr{IPNet: hostNet(ip)}
	if err := netlink.AddrAdd(lo, addr); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("dns: put %s on %s: %w", ip, loopback, err)
	}
	return nil
}

func hostNet(ip netip.Addr) *net.IPNet {
	return &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(ip.BitLen(), ip.BitLen())}
}

// Reset takes the address off the loopback interface.
func Reset(ip netip.Addr) error {
	lo, err := netlink.LinkByName(loopback)
	if err != nil {
		return fmt.Errorf("dns: find the interface %s: %w", loopback, err)
	}
	if err := netlink.AddrDel(lo, &netlink.Addr{IPNet: hostNet(ip)}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("dns: take %s off %s: %w", ip, loopback, err)
	}
	return nil
}
