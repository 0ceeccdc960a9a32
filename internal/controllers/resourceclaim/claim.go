package resourceclaim

import (
	"slices"

	resourcev1 "k8s.io/api/resource/v1"
)

// claimPlan is what is to become of a claim.
type claimPlan struct {
	status  *resourcev1.ResourceClaimStatus // to be written; nil: as it is
	release bool                            // it need not be kept from deletion any more
	unused  bool                            // nobody has it reserved
}

// planClaim drops the reservations that are not needed, and takes back the devices of a claim with the last of them. A claim that
// is to be deleted is let go once nobody has it reserved.
func planClaim(claim *resourcev1.ResourceClaim, needed func(*resourcev1.ResourceClaimConsumerReference) bool) claimPlan {
	var kept []resourcev1.ResourceClaimConsumerReference
	for i := range claim.Status.ReservedFor {
		if ref := &claim.Status.ReservedFor[i]; needed(ref) {
			kept = append(kept, *ref)
		}
	}
	ours := slices.Contains(claim.Finalizers, resourcev1.Finalizer) // allocated by the scheduler
	p := claimPlan{unused: len(kept) == 0}
	dropped := len(kept) < len(claim.Status.ReservedFor)
	free := p.unused && ours && (dropped || claim.DeletionTimestamp != nil)
	if dropped || free && claim.Status.Allocation != nil {
		p.status = claim.Status.DeepCopy()
		p.status.ReservedFor = kept
		if free {
			p.status.Allocation, p.status.Devices = nil, nil
		}
	}
	p.release = free
	return p
}
