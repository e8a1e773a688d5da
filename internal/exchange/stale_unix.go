//go:build unix

package exchange

import "syscall"

// stale reports whether something has come over an unused connection: its end, or
// what nobody has asked for. A request would be lost on it.
func (c *conn) stale() bool {
	if c.socket == nil {
		return false
	}
	came := true
	err := c.socket.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		came = err != syscall.EAGAIN && err != syscall.EWOULDBLOCK
	})
	return err != nil || came
}
