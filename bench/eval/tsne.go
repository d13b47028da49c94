package eval

import (
	"context"
	"math"
	"slices"
)

// The schedule of van der Maaten and Hinton 2008, with the step of Belkina et al. 2019.
const (
	exaggeration      = 12.0
	exaggeratedFor    = 0.25 // of the iterations
	leastStep         = 50.0
	momentumFirst     = 0.5 // while exaggerated
	momentumThen      = 0.8
	leastGain         = 0.01
	firstSpread       = 1e-4 // deviation of the coordinates at the start
	bandwidthHalvings = 64
)

// affinity is how much a row and a neighbour attract each other.
type affinity struct {
	row int
	p   float64
}

// tsne lays rows out by their nearest neighbours: those attract each other, all rows
// repel each other, all pairs of them, with nothing approximated. It begins with the
// given points, scaled down, so there is no chance in it; and as every sum is taken
// by one goroutine in the order of rows, threads do not matter. The cost is that of
// rows² divisions an iteration.
func tsne(ctx context.Context, nb *neighbourhood, start []Point, perplexity float64, iterations int, o RunOptions) (points []Point, kl float64, err error) {
	n := len(start)
	p := affinities(nb, perplexity)
	points = slices.Clone(start)
	variance := 0.0
	for _, s := range start {
		variance += s.X * s.X / float64(n)
	}
	for i := range points {
		points[i].X *= firstSpread / math.Sqrt(variance)
		points[i].Y *= firstSpread / math.Sqrt(variance)
	}
	step := max(float64(n)/exaggeration/4, leastStep)
	forces := make([]Point, n)
	parts := make([]float64, n)
	speed := make([]Point, n)
	gain := make([]Point, n)
	for i := range gain {
		gain[i] = Point{1, 1}
	}
	move := func(speed, gain *float64, gradient, momentum float64) float64 {
		if *speed*gradient < 0 {
			*gain += 0.2
		} else {
			*gain = max(leastGain, *gain*0.8)
		}
		*speed = momentum**speed - step**gain*gradient
		return *speed
	}
	for at := range iterations {
		if ctx.Err() != nil {
			return nil, 0, context.Cause(ctx)
		}
		attract, momentum := exaggeration, momentumFirst
		if float64(at) >= exaggeratedFor*float64(iterations) {
			attract, momentum = 1, momentumThen
		}
		z := repel(points, forces, parts, o.Threads)
		var mean Point
		for i := range points {
			var pull Point
			for _, a := range p[i] {
				dx, dy := points[i].X-points[a.row].X, points[i].Y-points[a.row].Y
				w := a.p / (1 + dx*dx + dy*dy)
				pull.X += w * dx
				pull.Y += w * dy
			}
			// Points move after all forces are known: forces take the push's place.
			forces[i] = Point{4 * (attract*pull.X - forces[i].X/z), 4 * (attract*pull.Y - forces[i].Y/z)}
		}
		for i := range points {
			points[i].X += move(&speed[i].X, &gain[i].X, forces[i].X, momentum)
			points[i].Y += move(&speed[i].Y, &gain[i].Y, forces[i].Y, momentum)
			mean.X += points[i].X / float64(n)
			mean.Y += points[i].Y / float64(n)
		}
		for i := range points {
			points[i].X -= mean.X
			points[i].Y -= mean.Y
		}
		if o.Progress != nil {
			o.Progress(int64(at+1), int64(iterations))
		}
	}
	z := repel(points, forces, parts, o.Threads)
	for i := range p {
		for _, a := range p[i] {
			dx, dy := points[i].X-points[a.row].X, points[i].Y-points[a.row].Y
			kl += a.p * math.Log(a.p*z*(1+dx*dx+dy*dy))
		}
	}
	return points, kl, nil
}

// repel sums the repulsion of all others for each point, times z = Σ_{i≠j} 1/(1+d²),
// which it returns. parts is room for a number a point.
func repel(points, forces []Point, parts []float64, threads int) (z float64) {
	spread(threads, len(points), func(_, i int) {
		at := points[i]
		var push Point
		sum := 0.0
		for _, other := range points {
			dx, dy := at.X-other.X, at.Y-other.Y
			q := 1 / (1 + dx*dx + dy*dy)
			sum += q
			push.X += q * q * dx
			push.Y += q * q * dy
		}
		forces[i], parts[i] = push, sum-1 // less itself
	})
	for _, part := range parts {
		z += part
	}
	return z
}

// affinities are those of every row with its neighbours, symmetric, in the order of
// rows; all of them sum to 1. Each row has a bandwidth of its own, such that its
// neighbours count as many as the perplexity says.
func affinities(nb *neighbourhood, perplexity float64) [][]affinity {
	n := len(nb.hits)
	p := make([][]affinity, n)
	for i, hits := range nb.hits {
		squares := make([]float64, len(hits))
		for j, h := range hits {
			squares[j] = max(0, 2-2*float64(h.Score))
		}
		for j, share := range bandwidth(squares, math.Log(perplexity)) {
			to := int(hits[j].Row)
			p[i] = append(p[i], affinity{to, share / float64(2*n)})
			p[to] = append(p[to], affinity{i, share / float64(2*n)})
		}
	}
	for i, list := range p {
		slices.SortStableFunc(list, func(a, b affinity) int { return a.row - b.row })
		joined := list[:0]
		for _, a := range list {
			switch last := len(joined) - 1; {
			case a.p == 0: // it underflowed, and its logarithm would be infinite
			case last >= 0 && joined[last].row == a.row:
				joined[last].p += a.p
			default:
				joined = append(joined, a)
			}
		}
		p[i] = joined
	}
	return p
}

// bandwidth finds β such that the shares exp(−β·d²)/Σ have the given entropy in nats,
// and returns the shares. Where no β gives it (all neighbours equally far), they are
// those of the last β tried.
func bandwidth(squares []float64, entropy float64) []float64 {
	shares := make([]float64, len(squares))
	low, high, beta := 0.0, math.Inf(1), 1.0
	nearest := slices.Min(squares)
	for range bandwidthHalvings {
		sum, weighted := 0.0, 0.0
		for j, d := range squares {
			shares[j] = math.Exp(-beta * (d - nearest))
			sum += shares[j]
			weighted += shares[j] * (d - nearest)
		}
		for j := range shares {
			shares[j] /= sum
		}
		excess := math.Log(sum) + beta*weighted/sum - entropy
		if math.Abs(excess) < 1e-7 {
			break
		}
		if excess > 0 {
			low = beta
			if beta *= 2; !math.IsInf(high, 1) {
				beta = (low + high) / 2
			}
		} else {
			high = beta
			beta = (low + high) / 2
		}
	}
	return shares
}
