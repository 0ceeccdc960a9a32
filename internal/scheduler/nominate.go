package scheduler

import "k8s.io/apimachinery/pkg/types"

// nomination reserves a node for a pod that waits for its victims to leave. Pods of less importance see it as placed there.
type nomination struct {
	info *podInfo
	node string
}

// nominate reserves nodeName for p, in place of what was reserved for it before.
func (c *cluster) nominate(p *podInfo, nodeName string) {
	c.dismiss(p.pod.UID)
	nominee := &nomination{p, nodeName}
	c.nominations[p.pod.UID] = nominee
	if c.nominees[nodeName] == nil {
		c.nominees[nodeName] = map[types.UID]*nomination{}
	}
	c.nominees[nodeName][p.pod.UID] = nominee
	c.reserved(nodeName)
}

// dismiss ends a pod's nomination, if it has one.
func (c *cluster) dismiss(uid types.UID) {
	nominee := c.nominations[uid]
	if nominee == nil {
		return
	}
	delete(c.nominations, uid)
	delete(c.nominees[nominee.node], uid)
	if len(c.nominees[nominee.node]) == 0 {
		delete(c.nominees, nominee.node)
	}
	c.reserved(nominee.node)
}

// reserved takes note that a node's reservations have changed.
func (c *cluster) reserved(name string) {
	if n := c.nodes[name]; n != nil {
		c.touch(n)
	}
}

// nominated returns the node reserved for a pod, or "".
func (c *cluster) nominated(uid types.UID) string {
	if nominee := c.nominations[uid]; nominee != nil {
		return nominee.node
	}
	return ""
}

// rivals are the pods of at least p's importance that n is reserved for.
func (c *cluster) rivals(p *podInfo, n *node) []*podInfo {
	var out []*podInfo
	for uid, nominee := range c.nominees[n.name] {
		if uid != p.pod.UID && nominee.info.priority >= p.priority && c.placed[uid] == nil {
			out = append(out, nominee.info)
		}
	}
	return out
}

// refusal tells why p may not go to n, and which rule says so, without using or keeping what was found out before. Where the
// node is reserved for others p must fit both beside them and without them: they may never come, and p may need one near.
func refusal(c *cluster, p *podInfo, n *node, rules []rule) (reason, int) {
	if rivals := c.rivals(p, n); rivals != nil {
		for _, q := range rivals {
			c.place(q, n.name, true)
		}
		why, rule := ask(c, p, n, rules)
		for _, q := range rivals {
			c.remove(q.pod.UID)
		}
		if why.refuses() {
			return why, rule
		}
	}
	return ask(c, p, n, rules)
}

func ask(c *cluster, p *podInfo, n *node, rules []rule) (reason, int) {
	if why, rule := prepare(c, p, rules, true).refusal(n); why.refuses() {
		return why, rule
	}
	return prepare(c, p, rules, false).refusal(n)
}
