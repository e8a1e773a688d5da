//go:build !linux

package soak

import "syscall"

// diesWithUs asks for nothing: there is no such service here.
func diesWithUs() *syscall.SysProcAttr { return nil }

func (l *life) own(started chan<- error) { l.run(started) }
