package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
)

// hostAddress returns the address at which other machines reach this one: what was asked for, else the source address of the
// default route, else the first address of an interface that is up.
func hostAddress(asked string) (netip.Addr, error) {
	if asked != "" {
		a, err := netip.ParseAddr(asked)
		if err != nil {
			return a, fmt.Errorf("advertise-address: %w", err)
		}
		return a, nil
	}
	// Connecting a UDP socket sends nothing; it asks the routing table. The address is one reserved for documentation.
	if conn, err := net.Dial("udp4", "192.0.2.1:9"); err == nil {
		defer conn.Close()
		if a, ok := netip.AddrFromSlice(conn.LocalAddr().(*net.UDPAddr).IP); ok && !a.IsLoopback() {
			return a.Unmap(), nil
		}
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("addresses of this machine: %w", err)
	}
	for _, address := range addresses {
		prefix, err := netip.ParsePrefix(address.String())
		if err == nil && prefix.Addr().Is4() && prefix.Addr().IsGlobalUnicast() {
			return prefix.Addr(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("this machine has no address that others could reach: give one with --advertise-address")
}

// nodeName returns the name this machine's node goes by.
func nodeName(asked string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("host name: %w: give a name with --node-name", err)
	}
	return strings.ToLower(name), nil
}
