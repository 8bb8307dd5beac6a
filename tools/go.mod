module github.com/brumehq/brume/tools

go 1.26.0
