//go:build !race

package sim

func oneProcessorUnderRace() {}

const someHistories = 20
