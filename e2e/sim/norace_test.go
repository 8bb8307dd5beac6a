//go:build !race

package sim

func oneProcessorUnderRace() {}
