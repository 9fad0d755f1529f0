// The tab "Network", in four steps: a layer, its maps, one map with a unit in it, and the arithmetic of that unit. Each
// step follows the one before and the picture, so that one can draw and watch.

import { Job, alertBox } from './job.js';
import { contactSheet, described, mapsOf } from './maps.js';
import { drawing } from './graph.js';
import { features, getGraph } from './api.js';
import { fill, h } from './dom.js';
import { layerTable } from './layers.js';
import { mapGrid } from './grid.js';
import { model, picture } from './state.js';
import { picker } from './picker.js';
import { say } from './i18n.js';
import { unitView } from './unit.js';

export function networkTab() {
  const chosen = { layer: null, channel: null, place: null };
  const graph = drawing((name) => chooseLayer(name));
  const table = layerTable((name) => chooseLayer(name));
  const sheet = contactSheet((map) => chooseMap(map));
  const grid = mapGrid((place) => chooseUnit(place));
  const unit = unitView();
  const [graphAlert, mapsAlert] = [alertBox(), alertBox()];
  const [mapsTitle, mapTitle] = [h('h3', {}), h('h3', {})];
  const steps = {
    maps: h('div', {}, mapsTitle, sheet.node),
    map: h('div', { class: 'beside' }, h('div', {}, mapTitle, grid.node), h('div', {}, h('h3', {}, say('unit.sees')), unit.seen)),
    unit: unit.node,
  };
  const hints = h('div', {});
  const graphJob = new Job(graph.node, graphAlert);
  // What was found for another picture or layer is not left beside the message.
  const mapsJob = new Job(steps.maps, mapsAlert, () => {
    fill(mapsTitle);
    sheet.clear();
    for (const step of [steps.map, steps.unit]) step.parentElement.hidden = true;
  });
  let current = null;

  model.watch((value) => {
    Object.assign(chosen, { layer: null, channel: null, place: null });
    graph.clear();
    if (value) {
      table.show(value);
      graphJob.run(async (signal) => graph.show(await getGraph(value.name, signal), value.layers));
    }
    reload();
  });
  picture.watch(() => reload());

  /** Says what is missing for the later steps, or computes them. */
  const reload = () => {
    const isMissing = !model.value?.explain || !picture.value || !chosen.layer;
    fill(hints, isMissing && hint(chosen.layer));
    for (const step of Object.values(steps)) step.parentElement.hidden = isMissing || (step !== steps.maps && chosen.channel === null);
    if (isMissing) mapsJob.cancel();
    else mapsJob.run(loadMaps);
  };
  const loadMaps = async (signal) => {
    current = mapsOf(await features(model.value.name, picture.value.blob, { layer: chosen.layer }, signal));
    fill(mapsTitle, described(current));
    if (current.maps[0].isVector) {
      // A vector is one map, so there is nothing to choose.
      chosen.channel = 0;
      sheet.clear();
    } else {
      sheet.show(current, chosen.channel);
    }
    if (chosen.channel !== null) await showMap(signal);
  };
  const chooseLayer = (name) => {
    Object.assign(chosen, { layer: name, channel: null, place: null });
    graph.mark(name);
    table.mark(name);
    reload();
  };
  const chooseMap = (map) => {
    chosen.channel = map.channel;
    sheet.mark(map.channel);
    mapsJob.run(showMap);
  };
  const showMap = async (signal) => {
    for (const step of [steps.map, steps.unit]) step.parentElement.hidden = false;
    const map = current.maps[chosen.channel];
    const isOutput = map.isVector && map.count === model.value.classes.length && chosen.layer === model.value.layers.at(-1).name;
    fill(mapTitle, map.isVector ? say('map.vectorTitle', chosen) : say('map.title', chosen));
    grid.show(map, chosen.place, isOutput ? model.value.classes : null);
    if (chosen.place) await chooseUnit(chosen.place);
    else await unit.reset(signal);
  };
  const chooseUnit = (place) => {
    chosen.place = place;
    const map = current.maps[chosen.channel];
    // While a run trains its network is loaded again: then the maps are read anew, too.
    const newer = (version) => {
      const is = version > current.version;
      if (is) mapsJob.run(loadMaps);
      return is;
    };
    return unit.show(chosen.layer, map.isVector ? [place[0] * map.size[1] + place[1]] : [chosen.channel, ...place], newer);
  };

  const node = h('div', { class: 'network' },
    step(1, 'network.layer', h('div', { class: 'structure' }, h('div', {}, graphAlert.node, graph.node), table.node), hints),
    step(2, 'network.maps', mapsAlert.node, steps.maps),
    step(3, 'network.map', steps.map),
    step(4, 'network.unit', steps.unit));
  for (const part of Object.values(steps)) part.parentElement.hidden = true;
  // While the tab is hidden nothing can be scrolled.
  return { node, open: () => chosen.layer || graph.centre() };
}

function step(number, title, ...content) {
  const id = `step-${number}`;
  return h('section', { class: 'step', 'aria-labelledby': id },
    h('h2', { id }, h('span', { class: 'count', 'aria-hidden': 'true' }, number), say(title)),
    h('p', { class: 'note lead' }, say(`${title}.lead`)), content);
}

/** What to do next: a layer is chosen by a click, a picture is chosen here or drawn in the first tab. */
function hint(layer) {
  if (!model.value) return h('p', { class: 'empty' }, say('model.none'));
  if (!model.value.explain) return h('p', { class: 'empty' }, say('network.cannot'));
  if (picture.value) return h('p', { class: 'empty' }, say('network.chooseLayer'));
  return h('div', { class: 'hint' },
    h('p', { class: 'empty' }, layer ? say('network.noPicture', { layer }) : say('network.nothing')),
    h('div', { class: 'row' }, picker(), h('a', { href: '#try' }, say('network.toTry'))));
}
