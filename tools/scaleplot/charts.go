package main

import (
	"image/color"
	"math"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	width  = 9 * vg.Inch
	height = 3 * vg.Inch
	beside = 1.5 * vg.Inch // for the legend
)

// chart is one plot over the time of the run.
type chart struct {
	name, label string
	log         bool
	lines       []line
}

// line is one value over time. ok is false where there is none.
type line struct {
	name string
	at   func(sample) (v float64, ok bool)
}

func always(f func(sample) float64) func(sample) (float64, bool) {
	return func(s sample) (float64, bool) { return f(s), true }
}

func charts(s *series) []chart {
	latency := chart{name: "latency", label: "slowest in 2 s (ms)", log: true}
	for _, verb := range verbs() {
		latency.lines = append(latency.lines, line{verb, func(s sample) (float64, bool) {
			w, ok := s.API[verb]
			return w.Max, ok && w.Max > 0
		}})
	}
	unit, scale := "MiB", 1.0
	if s.Peak().RSS > 2048 {
		unit, scale = "GiB", 1024
	}
	return []chart{
		{name: "pods", label: "pods", lines: []line{
			{"there", always(func(s sample) float64 { return float64(s.Pods) })},
			{"Ready", always(func(s sample) float64 { return float64(s.Running) })},
		}},
		{name: "memory", label: "memory of the server (" + unit + ")", lines: []line{
			{"resident", always(func(s sample) float64 { return s.Memory.RSS / scale })},
			{"of it anonymous", always(func(s sample) float64 { return s.Memory.Anon / scale })},
		}},
		{name: "cpu", label: "CPU (cores)", lines: []line{
			{"server", always(func(s sample) float64 { return s.CPU.Server })},
			{"nodes", always(func(s sample) float64 { return s.CPU.Nodes })},
			{"client", always(func(s sample) float64 { return s.CPU.Client })},
		}},
		latency,
	}
}

// palette is by Okabe and Ito: all can tell its colours apart.
func palette() []color.Color {
	return []color.Color{
		color.RGBA{0, 114, 178, 255}, color.RGBA{213, 94, 0, 255}, color.RGBA{0, 158, 115, 255}, color.RGBA{204, 121, 167, 255}, color.RGBA{86, 180, 233, 255},
	}
}

// save draws the chart into file, as SVG.
func (c chart) save(s *series, file string) error {
	p := plot.New()
	sans := font.Font{Typeface: "Liberation", Variant: "Sans", Size: 10}
	for _, style := range []*text.Style{&p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label} {
		style.Font = sans
	}
	p.X.Label.Text, p.Y.Label.Text = "seconds since the server was started", c.label
	legend := plot.NewLegend()
	legend.TextStyle.Font, legend.Top, legend.Left, legend.Padding = sans, true, true, vg.Points(2)
	p.Y.Tick.Marker = plot.TickerFunc(ticks)
	low, high := 0.0, 0.0
	if c.log {
		low, high = 1, 10
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(decades)
	}
	for i, l := range c.lines {
		points := l.points(s, low)
		if len(points) == 0 {
			continue
		}
		for _, at := range points {
			high = max(high, at.Y)
		}
		drawn, err := plotter.NewLine(points)
		if err != nil {
			return err
		}
		drawn.Color, drawn.Width = palette()[i%len(palette())], vg.Points(1.2)
		p.Add(drawn)
		legend.Add(l.name, drawn)
	}
	if c.log {
		high = math.Pow(10, math.Ceil(math.Log10(high))) * 10 // and room for the names of phases
	} else {
		high *= 1.2
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, s.Seconds(), low, max(high, 1)
	if err := mark(p, s, sans); err != nil {
		return err
	}
	canvas := vgsvg.New(width, height)
	whole := draw.New(canvas)
	p.Draw(draw.Crop(whole, 0, -beside, 0, 0))
	legend.Draw(draw.Crop(whole, width-beside+vg.Points(6), 0, 0, vg.Points(-8)))
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = canvas.WriteTo(f)
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

// points are those of a line, none of them below low.
func (l line) points(s *series, low float64) plotter.XYs {
	var points plotter.XYs
	for _, at := range s.Samples {
		if v, ok := l.at(at); ok {
			points = append(points, plotter.XY{X: at.T, Y: max(v, low)})
		}
	}
	return points
}

// mark draws where phases begin, with the names of those that have room for one, in two rows.
func mark(p *plot.Plot, s *series, f font.Font) error {
	f.Size = 8
	style := text.Style{Font: f, Color: color.Gray{90}, YAlign: text.YTop, Handler: plot.DefaultTextHandler}
	rows, free := [2]plotter.XYLabels{}, [2]float64{} // free is where there is room again
	for _, ph := range s.Phases {
		begin, err := plotter.NewLine(plotter.XYs{{X: ph.Start, Y: p.Y.Min}, {X: ph.Start, Y: p.Y.Max}})
		if err != nil {
			return err
		}
		begin.Color, begin.Width, begin.Dashes = color.Gray{150}, vg.Points(0.5), []vg.Length{vg.Points(3), vg.Points(3)}
		p.Add(begin)
		for row := range rows {
			if ph.Start < free[row] {
				continue
			}
			rows[row].XYs = append(rows[row].XYs, plotter.XY{X: ph.Start, Y: p.Y.Max})
			rows[row].Labels = append(rows[row].Labels, " "+ph.Name)
			free[row] = ph.Start + float64(len(ph.Name)+1)*s.Seconds()/100
			break
		}
	}
	for row, names := range rows {
		if len(names.Labels) == 0 {
			continue
		}
		shown, err := plotter.NewLabels(names)
		if err != nil {
			return err
		}
		for i := range shown.TextStyle {
			shown.TextStyle[i] = style
		}
		shown.Offset.Y = -f.Size * vg.Length(row) * 1.1
		p.Add(shown)
	}
	return nil
}

// ticks are the default ones, with commas in large numbers.
func ticks(low, high float64) []plot.Tick {
	all := plot.DefaultTicks{}.Ticks(low, high)
	for i, t := range all {
		if t.Label != "" && high >= 1000 {
			all[i].Label = whole(int(t.Value))
		}
	}
	return all
}

// decades are the ticks of a logarithmic axis that begins and ends with a power of ten.
func decades(low, high float64) []plot.Tick {
	var all []plot.Tick
	for v := low; v <= high*1.001; v *= 10 {
		all = append(all, plot.Tick{Value: v, Label: whole(int(v + 0.5))})
		for i := 2.0; i < 10 && v*i < high; i++ {
			all = append(all, plot.Tick{Value: v * i})
		}
	}
	return all
}
