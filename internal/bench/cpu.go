package bench

import "time"

// CPU is what one delivery costs, in microseconds of one core. A figure that the
// system does not tell is nil: only Linux has them, and only of a database that is
// ours.
type CPU struct {
	// SenderUS is the sending process's: Posthorn's, or the client's of the ceiling.
	SenderUS *float64 `json:"sender_us"`
	// DatabaseUS is PostgreSQL's, all its processes together.
	DatabaseUS *float64 `json:"database_us"`
	// ReceiverUS is that of the process that receives.
	ReceiverUS *float64 `json:"receiver_us"`
}

// meter reads the CPU time of the processes that take part; 0 is none that is known.
type meter struct {
	sender, postmaster, receiver int
}

// meterReading is CPU time since each process began; nil where it is not known.
type meterReading struct {
	at                         time.Time
	sender, database, receiver *time.Duration
}

func (m meter) read() meterReading {
	return meterReading{at: time.Now(), sender: ofProcess(m.sender, processTime),
		database: ofProcess(m.postmaster, familyTime), receiver: ofProcess(m.receiver, processTime)}
}

// per shares what has been used since an earlier reading among deliveries.
func (r meterReading) per(deliveries int64, since meterReading) CPU {
	each := func(now, before *time.Duration) *float64 {
		if now == nil || before == nil || deliveries == 0 {
			return nil
		}
		us := float64(*now-*before) / float64(time.Microsecond) / float64(deliveries)
		return &us
	}
	return CPU{each(r.sender, since.sender), each(r.database, since.database), each(r.receiver, since.receiver)}
}

// share is what has been used since an earlier reading, in per cent of one core.
func share(now, before *time.Duration, during time.Duration) *float64 {
	if now == nil || before == nil || during == 0 {
		return nil
	}
	percent := 100 * float64(*now-*before) / float64(during)
	return &percent
}

// medianCPU takes the median of each part by itself.
func medianCPU(all []CPU) CPU {
	return CPU{
		SenderUS:   medianKnown(all, func(c CPU) *float64 { return c.SenderUS }),
		DatabaseUS: medianKnown(all, func(c CPU) *float64 { return c.DatabaseUS }),
		ReceiverUS: medianKnown(all, func(c CPU) *float64 { return c.ReceiverUS }),
	}
}

// ofProcess asks for one figure of a process, unless it is nobody's.
func ofProcess[T any](pid int, figure func(pid int) (T, bool)) *T {
	if pid == 0 {
		return nil
	}
	value, known := figure(pid)
	if !known {
		return nil
	}
	return &value
}
