package eval

import (
	"slices"

	"membank/store"
)

// dictionary is the gallery's classes: the distinct labels of its rows, in
// ascending order. Labels are any integers, with gaps and below zero as they
// come; a class is named by its place, from 0, and printed by its label.
type dictionary struct {
	labels []int64
	names  []string
}

// newDictionary collects the classes and rewrites labels in place: the class of
// each row, -1 for a row without a label. It returns how many rows have one.
func newDictionary(labels []int64, names []string) (d dictionary, labelled int64) {
	seen := map[int64]int64{}
	for _, l := range labels {
		if l != store.NoLabel {
			seen[l] = 0
			labelled++
		}
	}
	d.names = names
	for l := range seen {
		d.labels = append(d.labels, l)
	}
	slices.Sort(d.labels)
	for c, l := range d.labels {
		seen[l] = int64(c)
	}
	for i, l := range labels {
		if l == store.NoLabel {
			labels[i] = -1
		} else {
			labels[i] = seen[l]
		}
	}
	return d, labelled
}

// anyLabelled says that a row has a label.
func anyLabelled(labels []int64) bool {
	return slices.ContainsFunc(labels, func(l int64) bool { return l != store.NoLabel })
}

// class is the place of a label, -1 if the gallery has no row of it.
func (d dictionary) class(label int64) int {
	c, ok := slices.BinarySearch(d.labels, label)
	if !ok {
		return -1
	}
	return c
}

// name of a label, "" if it has none.
func (d dictionary) name(label int64) string { return nameOf(d.names, label) }

func nameOf(names []string, label int64) string {
	if label < 0 || label >= int64(len(names)) {
		return ""
	}
	return names[label]
}

// translation takes labels of the query set to classes of the gallery. Where
// both banks name their classes the name decides, because two ingests may have
// numbered them differently; without names on both sides the number does.
type translation struct {
	gallery dictionary
	names   []string         // of the query set
	byName  map[string]int64 // the gallery's label of a name; nil: match numbers
}

func newTranslation(gallery dictionary, names []string) translation {
	t := translation{gallery: gallery, names: names}
	if len(gallery.names) == 0 || len(names) == 0 {
		return t
	}
	t.byName = make(map[string]int64, len(gallery.names))
	for l, name := range gallery.names {
		if name != "" {
			t.byName[name] = int64(l)
		}
	}
	return t
}

// class of a query's label, -1 if the gallery lacks it. A label without a name
// in a bank that names others is matched by number, but only to a class without
// a name.
func (t translation) class(label int64) int {
	if t.byName == nil {
		return t.gallery.class(label)
	}
	name := nameOf(t.names, label)
	if name == "" {
		if t.gallery.name(label) != "" {
			return -1
		}
		return t.gallery.class(label)
	}
	l, ok := t.byName[name]
	if !ok {
		return -1
	}
	return t.gallery.class(l)
}

// matchedBy says which of the two it was.
func (t translation) matchedBy() string {
	if t.byName != nil {
		return "name"
	}
	return "number"
}
