//go:build unix

package exchange

import "syscall"

// came reports whether anything has come that nobody has read from the socket.
func (c *conn) came() bool {
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
