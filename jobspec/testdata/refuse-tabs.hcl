job "tabs" {
	group "g" {
		coutn = 1 # größer
		task "t" {
			driver = "x"
			user = "ü" + 1
		}
	}
}
