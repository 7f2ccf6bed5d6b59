/** One line of a panel: values at the same times as every other. */
export interface Series {
  readonly label: string;
  readonly colour: string;
  readonly values: readonly number[];
  readonly dashed?: boolean;
}

export interface Panel {
  readonly title: string;
  readonly unit: string;
  readonly series: readonly Series[];
  readonly logarithmic?: boolean;
}

const width = 960;
const panelHeight = 190;
const margin = { left: 70, right: 20, top: 64, between: 64 };

/** Panels one below the other over one axis of hours, as an SVG (SVG 1.1). Values of a logarithmic panel are lifted to its floor. */
export function plotPanels(title: string, hours: number, panels: readonly Panel[]): string {
  const height = margin.top + panels.length * (panelHeight + margin.between);
  const parts = panels.map((panel, index) => plotPanel(panel, hours, margin.top + index * (panelHeight + margin.between) + 18));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="system-ui, sans-serif" font-size="12" fill="#222">`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    `<text x="${margin.left}" y="30" font-size="18" font-weight="600">${escape(title)}</text>`,
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}

const logFloor = 0.1;

function plotPanel(panel: Panel, hours: number, top: number): string {
  const { ticks, most } = scaleOf(panel);
  const bottom = top + panelHeight;
  const inner = width - margin.left - margin.right;
  const x = (index: number, count: number): number => margin.left + (inner * (index + 0.5)) / count;
  const share = (value: number): number =>
    panel.logarithmic ? Math.log(Math.max(value, logFloor) / logFloor) / Math.log(most / logFloor) : Math.max(0, value) / most;
  const y = (value: number): number => bottom - share(value) * panelHeight;
  const grid = ticks.map(
    (tick) =>
      `<line x1="${margin.left}" x2="${width - margin.right}" y1="${round(y(tick))}" y2="${round(y(tick))}" stroke="#e4e4e4"/>` +
      `<text x="${margin.left - 8}" y="${round(y(tick) + 4)}" text-anchor="end" fill="#555">${tickText(tick)}</text>`,
  );
  const step = Math.max(1, Math.round(hours / 12));
  const hourTexts = Array.from({ length: Math.floor(hours / step) + 1 }, (_, index) => index * step).map(
    (hour) => `<text x="${round(margin.left + (inner * hour) / hours)}" y="${bottom + 16}" text-anchor="middle" fill="#555">${hour}:00</text>`,
  );
  const lines = panel.series.map(({ values, colour, dashed }) => {
    const points = values.map((value, index) => `${round(x(index, values.length))},${round(y(value))}`).join(' ');
    return `<polyline points="${points}" fill="none" stroke="${colour}" stroke-width="1.8"${dashed ? ' stroke-dasharray="5 4"' : ''}/>`;
  });
  const legend = legendOf(panel.series, top - 10);
  return [`<text x="${margin.left}" y="${top - 26}" font-weight="600">${escape(panel.title)}, ${escape(panel.unit)}</text>`, ...grid, ...hourTexts, ...lines, legend].join('\n');
}

function legendOf(series: readonly Series[], y: number): string {
  let x = margin.left;
  return series
    .map(({ label, colour, dashed }) => {
      const at = x;
      x += 44 + label.length * 6.6;
      return (
        `<line x1="${at}" x2="${at + 22}" y1="${y - 4}" y2="${y - 4}" stroke="${colour}" stroke-width="2.4"${dashed ? ' stroke-dasharray="5 4"' : ''}/>` +
        `<text x="${at + 28}" y="${y}">${escape(label)}</text>`
      );
    })
    .join('');
}

function scaleOf(panel: Panel): { ticks: number[]; most: number } {
  const largest = Math.max(...panel.series.flatMap(({ values }) => values), panel.logarithmic ? 1 : 1e-9);
  if (panel.logarithmic) {
    const decades = Math.ceil(Math.log10(largest / logFloor));
    return { ticks: Array.from({ length: decades + 1 }, (_, index) => logFloor * 10 ** index), most: logFloor * 10 ** decades };
  }
  const rough = largest / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10) * power;
  const count = Math.ceil(largest / step);
  return { ticks: Array.from({ length: count + 1 }, (_, index) => index * step), most: count * step };
}

function tickText(tick: number): string {
  return Number(tick.toPrecision(6)).toLocaleString('en');
}

function round(value: number): string {
  return value.toFixed(1);
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
