package e2e

// together are the stories that bear company.
func together() []story {
	return []story{
		{"workload", workload},
	}
}

// alone are the stories that disturb others.
func alone() []story { return nil }
