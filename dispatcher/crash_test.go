package dispatcher

const nodeEnv = "POSTHORN_TEST_NODE"

func runNodeProcess() {}
