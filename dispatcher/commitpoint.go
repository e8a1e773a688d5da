package dispatcher

// commitPoint names a moment at which the process may die. What then happens is
// in the package's documentation; the crash tests kill a process at each.
type commitPoint string

const (
	relayClaimed        commitPoint = "relay-claimed"         // claimed and routed, not committed
	relayCommitted      commitPoint = "relay-committed"       // committed, not handed off
	senderBeforePost    commitPoint = "sender-before-post"    // handed off, nothing sent
	senderAfterPost     commitPoint = "sender-after-post"     // answered, result not with the recorder
	recorderBefore      commitPoint = "recorder-before"       // results gathered, transaction not begun
	recorderUncommitted commitPoint = "recorder-uncommitted"  // results written, not committed
	recorderCommitted   commitPoint = "recorder-committed"    // committed
	workerFetched       commitPoint = "worker-fetched"        // River's job is running, nothing loaded
	workerHandedOver    commitPoint = "worker-handed-over"    // in the lane, the job not snoozed yet
	splitUncommitted    commitPoint = "split-uncommitted"     // a parcel given to its endpoints' own jobs, not committed
	splitCommitted      commitPoint = "split-committed"       // committed, the parcel's job still running
	backlogFetched      commitPoint = "backlog-fetched"       // a backlog's job is running, not owned yet
	backlogHandedOver   commitPoint = "backlog-handed-over"   // a piece of a backlog in its lane
	reaperUncommitted   commitPoint = "reaper-uncommitted"    // a dead node's jobs released, not committed
	reaperCommitted     commitPoint = "reaper-committed"      // released
	sweepUncommitted    commitPoint = "sweep-uncommitted"     // lost jobs made again, not committed
	sweepCommitted      commitPoint = "sweep-committed"       // made again
	auditUncommitted    commitPoint = "audit-uncommitted"     // minutes accounted for, not committed
	auditCommitted      commitPoint = "audit-committed"       // committed
	trimStaged          commitPoint = "trim-staged"           // what is needed of a day copied, nothing exchanged
	trimUncommitted     commitPoint = "trim-uncommitted"      // a day exchanged for it, not committed
	trimCommitted       commitPoint = "trim-committed"        // committed, the day's own tables not dropped
	redeliverWritten    commitPoint = "redeliver-uncommitted" // a retry by hand written, not committed
	redeliverCommitted  commitPoint = "redeliver-committed"   // committed
)

// commitPoints are all of them, for the crash tests.
var commitPoints = []commitPoint{
	relayClaimed, relayCommitted, senderBeforePost, senderAfterPost,
	recorderBefore, recorderUncommitted, recorderCommitted,
	workerFetched, workerHandedOver, splitUncommitted, splitCommitted, backlogFetched, backlogHandedOver, reaperUncommitted, reaperCommitted,
	sweepUncommitted, sweepCommitted, auditUncommitted, auditCommitted,
	trimStaged, trimUncommitted, trimCommitted, redeliverWritten, redeliverCommitted,
}

// reaching is called at every commit point; nil outside of tests.
type reaching func(commitPoint)

func (r reaching) at(p commitPoint) {
	if r != nil {
		r(p)
	}
}
