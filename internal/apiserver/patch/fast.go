package patch

import "canopus/internal/kinds"

func (o *Owners) fastUpdate(live, obj kinds.Object, manager string) bool { return false }
